import { GpuaasError } from '../../../kit/error.ts';

/** Every way in which an access token is no login. Each has its own reason, so that a refusal can be acted on. */
const MESSAGES = {
	ACCESS_TOKEN_MALFORMED: 'the access token is not a signed JSON Web Token; log in again',
	ACCESS_TOKEN_TOO_LARGE: 'the access token is larger than a login ever is; nothing of it was read. Log in again',
	ACCESS_TOKEN_ALGORITHM:
		'the access token is signed by an algorithm that is not taken here (none and shared secrets never are); have the provider sign with one of [oidc] algorithms',
	ACCESS_TOKEN_SIGNATURE: 'the access token is not signed by a key that its issuer publishes; log in again',
	ACCESS_TOKEN_ISSUER: 'the access token comes from a provider that is not configured here; log in at the right one',
	ACCESS_TOKEN_AUDIENCE:
		'the access token is not meant for this control plane: its audience lacks [oidc] audience. Give the client an audience mapper, or log in with the right client',
	ACCESS_TOKEN_CLIENT: 'the access token was made for a client that is not in [oidc] clients; log in with gpuaas login',
	ACCESS_TOKEN_TYPE:
		'this is not an access token: ID, refresh and logout tokens are not taken. Send the access token, of type at+jwt',
	ACCESS_TOKEN_EXPIRED: 'the access token has expired; log in again',
	ACCESS_TOKEN_TIME:
		'the times in the access token cannot be right (not yet valid, made in the future, or good for too long); compare the clocks of the provider and this control plane',
	ACCESS_TOKEN_CLAIMS:
		'the access token lacks what a login needs (sub, jti, iat, exp); check the mappers of the client',
} as const;

export type TokenRefusal = keyof typeof MESSAGES;

/** `detail` is for the log: which claim, never its value. */
export function tokenRefused(reason: TokenRefusal, cause?: unknown): GpuaasError {
	return new GpuaasError({ code: 'UNAUTHENTICATED', reason, message: MESSAGES[reason], cause });
}
