import { type CryptoKey, exportJWK, generateKeyPair, SignJWT } from 'jose';
import { present } from '../../../kit/assert.ts';
import { Registry } from '../../../kit/exposition.ts';
import { type Logger, silentLogger } from '../../../kit/log.ts';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import type { Fetch } from './fetch-json.ts';
import { KeySet } from './key-set.ts';
import { OidcMetrics } from './metrics.ts';
import type { TokenRules } from './rules.ts';
import { OidcVerifier } from './verifier.ts';

/** For tests: a provider's documents and keys under virtual time; the protocol around it is tested with real ones. */
export const ISSUER = 'https://id.example/realms/gpuaas';

export const RULES: TokenRules = {
	issuer: ISSUER,
	audience: 'gpuaas',
	clients: ['gpuaas-cli'],
	algorithms: ['ES256', 'RS256'],
	tokenLifetimeMaxMs: 600_000,
	clockSkewMaxMs: 30_000,
};

export interface SigningKey {
	readonly kid: string;
	readonly alg: string;
	readonly privateKey: CryptoKey;
	readonly jwk: Record<string, unknown>;
}

export async function signingKey(kid: string, alg = 'ES256'): Promise<SigningKey> {
	const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
	return { kid, alg, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } };
}

/** Of these claims (undefined leaves one out), signed with the key. */
export function tokenOf(
	key: SigningKey,
	claims: Readonly<Record<string, unknown>>,
	header: Readonly<Record<string, unknown>> = {},
): Promise<string> {
	return new SignJWT(claims).setProtectedHeader({ alg: key.alg, kid: key.kid, ...header }).sign(key.privateKey);
}

export class TestProvider {
	readonly clock = new VirtualClock();
	readonly registry = new Registry();
	/** What the provider publishes; undefined: it can't be reached. */
	published: readonly Record<string, unknown>[] | undefined;
	/** Takes requests and answers none. */
	isSilent = false;
	issuer = ISSUER;
	jwksUri = `${ISSUER}/certs`;
	fetches = 0;
	readonly keys: KeySet;
	readonly verifier: OidcVerifier;

	constructor(
		published: readonly Record<string, unknown>[],
		log: Logger = silentLogger,
		expectedKeyIds: string[] = [],
	) {
		this.published = published;
		const metrics = OidcMetrics.of(this.registry);
		this.keys = new KeySet({ issuer: ISSUER, clock: this.clock, log, fetch: this.#fetch, metrics, expectedKeyIds });
		this.verifier = new OidcVerifier({
			providers: [{ rules: RULES, keys: this.keys }],
			clock: this.clock,
			metrics,
		});
	}

	readonly #fetch: Fetch = async (url, { signal }) => {
		this.fetches += 1;
		if (this.isSilent)
			return await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(new Error('timed out'))));
		if (this.published === undefined) throw new Error('connection refused');
		if (url.endsWith('/.well-known/openid-configuration'))
			return Response.json({ issuer: this.issuer, jwks_uri: this.jwksUri });
		return Response.json({ keys: this.published });
	};

	/** A good access token, changed by `claims` (undefined removes one) and `header`. */
	token(key: SigningKey, claims: Record<string, unknown> = {}, header: Record<string, unknown> = {}): Promise<string> {
		const nowS = Math.floor(this.clock.now() / 1000);
		const payload = {
			iss: ISSUER,
			aud: ['gpuaas', 'account'],
			azp: 'gpuaas-cli',
			sub: 'subject-1',
			jti: 'token-1',
			iat: nowS,
			exp: nowS + 300,
			auth_time: nowS - 10,
			acr: 'urn:gpuaas:acr:password',
			email: 'Alice@Example.com',
			email_verified: true,
			...claims,
		};
		return tokenOf(key, payload, { typ: 'at+jwt', ...header });
	}

	metric(name: string): string {
		return present(
			this.registry
				.render('text')
				.split('\n')
				.filter((line) => line.startsWith(name))
				.join('\n'),
			name,
		);
	}
}
