import {
	allowInsecureRequests,
	ClientError,
	type Configuration,
	discovery,
	None,
	ResponseBodyError,
	type TokenEndpointResponse,
} from 'openid-client';
import { GpuaasError, messageOf } from '../../kit/error.ts';
import type { Io } from '../io.ts';
import type { StoredLogin } from './stored-login.ts';

/** `openid`: who it is; the other two: what an invitation is matched with, and what people are shown. */
export const SCOPE = 'openid email profile';

/**
 * The provider's metadata, and us as its public client: no secret, so PKCE is what binds a code to us (RFC 8252). HTTP is
 * for a provider on this machine only.
 */
export async function openProvider(issuer: string, clientId: string): Promise<Configuration> {
	if (!URL.canParse(issuer)) throw loginFailed(`${JSON.stringify(issuer)} is not the address of a provider`);
	const { protocol, hostname } = new URL(issuer);
	const isLoopback = protocol === 'http:' && ['127.0.0.1', '[::1]', 'localhost'].includes(hostname);
	try {
		return await discovery(new URL(issuer), clientId, undefined, None(), {
			timeout: 10,
			...(isLoopback ? { execute: [allowInsecureRequests] } : {}),
		});
	} catch (error) {
		throw loginFailed(`the provider ${issuer} gave no usable discovery document: ${whyOf(error)}`, error);
	}
}

export function storedLogin(
	io: Pick<Io, 'clock'>,
	from: Pick<StoredLogin, 'issuer' | 'clientId'>,
	tokens: TokenEndpointResponse,
	before = '',
): StoredLogin {
	return {
		issuer: from.issuer,
		clientId: from.clientId,
		accessToken: tokens.access_token,
		// Without it we would not know when to refresh: then each command does.
		expiresAtMs: io.clock.now() + (tokens.expires_in ?? 0) * 1000,
		refreshToken: tokens.refresh_token ?? before,
	};
}

export function loginFailed(why: string, cause?: unknown): GpuaasError {
	return new GpuaasError({
		code: 'UNAUTHENTICATED',
		reason: 'LOGIN_FAILED',
		message: `not logged in: ${why}; nothing was stored. Try again with: gpuaas login`,
		cause,
	});
}

/** What the provider or the library said, in one line. */
export function whyOf(error: unknown): string {
	if (error instanceof ResponseBodyError) return `${error.error} ${error.error_description ?? ''}`.trim();
	const cause = error instanceof Error && error.cause instanceof Error ? ` (${error.cause.message})` : '';
	return error instanceof ClientError ? `${error.message}${cause}` : `${messageOf(error)}${cause}`;
}
