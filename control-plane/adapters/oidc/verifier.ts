import { createHash } from 'node:crypto';
import { decodeJwt, errors, type JWTVerifyResult, jwtVerify } from 'jose';
import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import type { TokenVerifier, VerifiedToken } from '../../app/login/token-verifier.ts';
import { checkClaims } from './claims.ts';
import type { FoundKeys, KeySet } from './key-set.ts';
import type { OidcMetrics } from './metrics.ts';
import { tokenRefused } from './refused.ts';
import { TOKEN_BYTES_MAX, type TokenRules } from './rules.ts';

/**
 * Access tokens of the configured providers (RFC 9068, RFC 8725). jose does the cryptography and the registered claims
 * with an algorithm allow-list, claims.ts the rest. Invariants: nothing of a token is believed before its signature
 * verified under a key of the issuer that it names; a token that verified is remembered by its hash, never past its end
 * and never longer than the keys are fresh.
 */
export interface Provider {
	readonly rules: TokenRules;
	readonly keys: KeySet;
}

const CACHE_ENTRIES_MAX = 10_000;
const CACHE_TTL_MS = 30_000;

export class OidcVerifier implements TokenVerifier {
	readonly #providers: ReadonlyMap<string, Provider>;
	readonly #clock: Clock;
	readonly #metrics: OidcMetrics;
	readonly #cache = new Map<string, { readonly token: VerifiedToken; readonly untilMs: number }>();

	constructor(options: { providers: readonly Provider[]; clock: Clock; metrics: OidcMetrics }) {
		this.#providers = new Map(options.providers.map((provider) => [provider.rules.issuer, provider]));
		this.#clock = options.clock;
		this.#metrics = options.metrics;
	}

	async verify(token: string): Promise<VerifiedToken> {
		try {
			if (token.length > TOKEN_BYTES_MAX) throw tokenRefused('ACCESS_TOKEN_TOO_LARGE');
			if (!isCanonical(token)) throw tokenRefused('ACCESS_TOKEN_MALFORMED');
			const hash = createHash('sha256').update(token).digest('base64');
			const known = this.#cache.get(hash);
			if (known !== undefined && known.untilMs > this.#clock.now()) {
				this.#metrics.token('ok');
				return known.token;
			}
			const { verified, freshForMs } = await this.#check(token);
			this.#remember(hash, verified, freshForMs);
			this.#metrics.token('ok');
			return verified;
		} catch (error) {
			this.#metrics.token(GpuaasError.from(error).reason);
			throw error;
		}
	}

	async #check(token: string): Promise<{ readonly verified: VerifiedToken; readonly freshForMs: number }> {
		const provider = this.#providers.get(issuerOf(token));
		if (provider === undefined) throw tokenRefused('ACCESS_TOKEN_ISSUER');
		const { rules, keys } = provider;
		let found = await keys.current();
		let result = await this.#verifyWith(token, rules, found);
		if (result === 'unknown key') {
			const renewed = await keys.renewed();
			if (renewed !== undefined) {
				found = renewed;
				result = await this.#verifyWith(token, rules, found);
			}
		}
		if (result === 'unknown key') throw tokenRefused('ACCESS_TOKEN_SIGNATURE');
		const { fresh: keysFresh, freshForMs } = found;
		const claims = checkClaims(result.protectedHeader, result.payload, rules);
		return { verified: Object.freeze({ ...claims, keysFresh }), freshForMs };
	}

	async #verifyWith(token: string, rules: TokenRules, { find }: FoundKeys): Promise<JWTVerifyResult | 'unknown key'> {
		try {
			return await jwtVerify(token, find, {
				algorithms: [...rules.algorithms],
				issuer: rules.issuer,
				audience: rules.audience,
				requiredClaims: ['sub', 'jti', 'iat', 'exp'],
				clockTolerance: rules.clockSkewMaxMs / 1000,
				maxTokenAge: rules.tokenLifetimeMaxMs / 1000,
				currentDate: new Date(this.#clock.now()),
			});
		} catch (error) {
			if (error instanceof errors.JWKSNoMatchingKey) return 'unknown key';
			throw refusalOf(error);
		}
	}

	#remember(hash: string, token: VerifiedToken, freshForMs: number): void {
		if (!token.keysFresh) return;
		if (this.#cache.size >= CACHE_ENTRIES_MAX) this.#cache.clear();
		const untilMs = Math.min(token.expiresAtMs, this.#clock.now() + Math.min(CACHE_TTL_MS, freshForMs));
		this.#cache.set(hash, { token, untilMs });
	}
}

/**
 * Three parts of base64url in its one shortest form. Decoders take others too, and then one token would have many
 * texts: found by fuzzing.
 */
function isCanonical(token: string): boolean {
	const parts = token.split('.', 4);
	return parts.length === 3 && parts.every((part) => Buffer.from(part, 'base64url').toString('base64url') === part);
}

/** Only to choose whose keys to verify with; believed after the signature alone. */
function issuerOf(token: string): string {
	try {
		return decodeJwt(token).iss ?? '';
	} catch (cause) {
		throw tokenRefused('ACCESS_TOKEN_MALFORMED', cause);
	}
}

function refusalOf(error: unknown): GpuaasError {
	if (error instanceof GpuaasError) return error;
	if (error instanceof errors.JWTExpired)
		return tokenRefused(error.claim === 'exp' ? 'ACCESS_TOKEN_EXPIRED' : 'ACCESS_TOKEN_TIME', error);
	if (error instanceof errors.JWTClaimValidationFailed)
		return tokenRefused(CLAIM[error.claim] ?? 'ACCESS_TOKEN_CLAIMS', error);
	if (error instanceof errors.JOSEAlgNotAllowed) return tokenRefused('ACCESS_TOKEN_ALGORITHM', error);
	if (error instanceof errors.JWSSignatureVerificationFailed) return tokenRefused('ACCESS_TOKEN_SIGNATURE', error);
	// Two published keys fit a token without a key id: which one signed can't be told.
	if (error instanceof errors.JWKSMultipleMatchingKeys) return tokenRefused('ACCESS_TOKEN_SIGNATURE', error);
	return tokenRefused('ACCESS_TOKEN_MALFORMED', error);
}

const CLAIM: Readonly<Record<string, Parameters<typeof tokenRefused>[0]>> = {
	iss: 'ACCESS_TOKEN_ISSUER',
	aud: 'ACCESS_TOKEN_AUDIENCE',
	exp: 'ACCESS_TOKEN_TIME',
	nbf: 'ACCESS_TOKEN_TIME',
	iat: 'ACCESS_TOKEN_TIME',
};
