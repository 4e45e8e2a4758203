import { beforeAll, describe, expect, test } from 'vitest';
import { GpuaasError } from '../../../kit/error.ts';
import { Registry } from '../../../kit/exposition.ts';
import { silentLogger } from '../../../kit/log.ts';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import { JwtEdgeVerifier } from './edge-verifier.ts';
import { COOLDOWN_MS, KeySet } from './key-set.ts';
import { OidcMetrics } from './metrics.ts';
import { TOKEN_BYTES_MAX } from './rules.ts';
import { type SigningKey, signingKey, tokenOf } from './test-provider.ts';

const ISSUER = 'https://access.example';
const AUDIENCE = 'gpuaas.example';

let ec: SigningKey;
let rsa: SigningKey;
let next: SigningKey;

beforeAll(async () => {
	[ec, rsa, next] = await Promise.all([signingKey('e1'), signingKey('r1', 'RS256'), signingKey('e2')]);
});

/** A proxy that publishes what it is told to, under virtual time. */
class Edge {
	readonly clock = new VirtualClock();
	published = [ec.jwk, rsa.jwk];
	fetches = 0;
	readonly verifier: JwtEdgeVerifier;

	constructor(kind: 'pomerium' | 'cloudflare') {
		const fetch = async () => {
			this.fetches += 1;
			return Response.json({ keys: this.published });
		};
		const metrics = OidcMetrics.of(new Registry());
		const { clock } = this;
		const from = { issuer: ISSUER, clock, log: silentLogger, fetch, metrics, expectedKeyIds: [] };
		const keys = new KeySet({ ...from, jwksUri: `${ISSUER}/keys` });
		this.verifier = new JwtEdgeVerifier(
			{ kind, issuer: ISSUER, audience: AUDIENCE, clockSkewMaxMs: 30_000 },
			keys,
			clock,
		);
	}

	async seen(key: SigningKey, claims: Record<string, unknown> = {}): Promise<string> {
		const nowS = Math.floor(this.clock.now() / 1000);
		const good = { iss: ISSUER, aud: AUDIENCE, sub: 'ada', email: 'Ada@Example.com', iat: nowS, exp: nowS + 300 };
		return await this.verifier.verify(await tokenOf(key, { ...good, ...claims })).then(
			({ subject, email }) => `${subject} ${email}`,
			(error: unknown) => GpuaasError.from(error).reason,
		);
	}
}

const INVALID = 'EDGE_ASSERTION_INVALID';

describe('an assertion of the edge', () => {
	test('says who passed, the address in lower case', async () => {
		expect(await new Edge('pomerium').seen(ec)).toBe('ada ada@example.com');
		expect(await new Edge('cloudflare').seen(rsa)).toBe('ada ada@example.com');
	});

	test.each([
		['another issuer', { iss: 'https://evil.example' }],
		['no issuer', { iss: undefined }],
		['another audience', { aud: 'other.example' }],
		['no audience', { aud: undefined }],
		['nobody', { sub: undefined }],
		['no end', { exp: undefined }],
		['no beginning', { iat: undefined }],
		['an end that is over', { exp: 1_799_999_969 }],
		['a beginning to come', { nbf: 1_800_000_031 }],
	])('of %s is refused', async (_name, claims) => {
		expect(await new Edge('pomerium').seen(ec, claims)).toBe(INVALID);
	});

	test('counts within the skew that clocks may have', async () => {
		expect(await new Edge('pomerium').seen(ec, { exp: 1_799_999_971 })).toBe('ada ada@example.com');
	});

	test('is signed as its proxy documents it, whatever else that publishes', async () => {
		expect(await new Edge('pomerium').seen(rsa)).toBe(INVALID);
		expect(await new Edge('cloudflare').seen(ec)).toBe(INVALID);
	});

	test('too large is not looked at', async () => {
		const edge = new Edge('pomerium');
		expect(await edge.seen(ec, { pad: 'x'.repeat(TOKEN_BYTES_MAX) })).toBe(INVALID);
		expect(edge.fetches).toBe(0);
	});

	test('by a key that came since is taken, and invented keys cost one fetch a cooldown', async () => {
		const edge = new Edge('pomerium');
		expect(await edge.seen(ec)).toBe('ada ada@example.com');
		edge.published = [ec.jwk, next.jwk];
		expect(await edge.seen(next)).toBe(INVALID);
		edge.clock.advance(COOLDOWN_MS);
		expect(await edge.seen(next)).toBe('ada ada@example.com');
		expect(await edge.seen(await signingKey('invented'))).toBe(INVALID);
		expect(edge.fetches).toBe(2);
	});
});
