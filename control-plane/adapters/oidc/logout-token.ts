import { decodeJwt, errors, type JWTPayload, jwtVerify } from 'jose';
import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import type { LogoutNotice, LogoutVerifier } from '../../app/login/web-provider.ts';
import { TOKEN_BYTES_MAX } from './rules.ts';
import type { Provider } from './verifier.ts';

const EVENT = 'http://schemas.openid.net/event/backchannel-logout';
/** Section 2.4 recommends two minutes. */
const AGE_MAX_S = 120;

/** Logout tokens (OpenID Connect Back-Channel Logout 1.0 section 2.6), under the keys of the providers of logins. */
export class LogoutTokens implements LogoutVerifier {
	readonly #providers: ReadonlyMap<string, Provider>;
	readonly #clientId: string;
	readonly #clock: Clock;

	constructor(providers: readonly Provider[], clientId: string, clock: Clock) {
		this.#providers = new Map(providers.map((provider) => [provider.rules.issuer, provider]));
		this.#clientId = clientId;
		this.#clock = clock;
	}

	async verifyLogout(token: string): Promise<LogoutNotice> {
		const provider = this.#providers.get(issuerOf(token));
		if (provider === undefined) throw invalid('its issuer is not configured here');
		const payload = await this.#payload(token, provider);
		const { sub, sid, jti, iat, events, nonce } = payload;
		if (nonce !== undefined) throw invalid('it has a nonce, so it is an ID token');
		if (typeof events !== 'object' || events === null || !(EVENT in events)) throw invalid('it tells of no logout');
		const subject = typeof sub === 'string' ? sub : '';
		const sessionId = typeof sid === 'string' ? sid : '';
		if ((subject === '' && sessionId === '') || typeof jti !== 'string' || iat === undefined)
			throw invalid('it lacks who or what is logged out, or its id');
		const expiresAtMs = this.#clock.now() + 2 * AGE_MAX_S * 1000;
		return { issuer: provider.rules.issuer, subject, sessionId, issuedAtMs: iat * 1000, tokenId: jti, expiresAtMs };
	}

	async #payload(token: string, { rules, keys }: Provider): Promise<JWTPayload> {
		const options = {
			algorithms: [...rules.algorithms],
			issuer: rules.issuer,
			audience: this.#clientId,
			maxTokenAge: AGE_MAX_S,
			clockTolerance: rules.clockSkewMaxMs / 1000,
			requiredClaims: ['iat', 'jti', 'events'],
			currentDate: new Date(this.#clock.now()),
		};
		try {
			const { payload, protectedHeader } = await jwtVerify(token, (await keys.current()).find, options).catch(
				async (error: unknown) => {
					const renewed = error instanceof errors.JWKSNoMatchingKey ? await keys.renewed() : undefined;
					if (renewed === undefined) throw error;
					return await jwtVerify(token, renewed.find, options);
				},
			);
			// The older form has no type of its own; an access token says what it is.
			if (protectedHeader.typ?.toLowerCase() === 'at+jwt') throw invalid('it is an access token');
			return payload;
		} catch (error) {
			throw error instanceof GpuaasError ? error : invalid('it is not a good logout token for this client', error);
		}
	}
}

function issuerOf(token: string): string {
	try {
		return token.length > TOKEN_BYTES_MAX ? '' : (decodeJwt(token).iss ?? '');
	} catch (error) {
		throw invalid('it is no JSON Web Token', error);
	}
}

function invalid(why: string, cause?: unknown): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'LOGOUT_TOKEN_INVALID',
		message: `the logout token is refused: ${why}`,
		cause,
	});
}
