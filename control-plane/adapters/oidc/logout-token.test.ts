import { beforeAll, describe, expect, test } from 'vitest';
import { GpuaasError } from '../../../kit/error.ts';
import { COOLDOWN_MS } from './key-set.ts';
import { LogoutTokens } from './logout-token.ts';
import { TOKEN_BYTES_MAX } from './rules.ts';
import { ISSUER, RULES, type SigningKey, signingKey, TestProvider, tokenOf } from './test-provider.ts';

const EVENTS = { 'http://schemas.openid.net/event/backchannel-logout': {} };

let key: SigningKey;
let stranger: SigningKey;
let next: SigningKey;

beforeAll(async () => {
	[key, stranger, next] = await Promise.all([signingKey('k1'), signingKey('k1'), signingKey('k2')]);
});

async function told(
	claims: Record<string, unknown>,
	{ header = { typ: 'logout+jwt' }, by = key, provider = new TestProvider([key.jwk]) } = {},
): Promise<string> {
	const tokens = new LogoutTokens([{ rules: RULES, keys: provider.keys }], 'console', provider.clock);
	const nowS = Math.floor(provider.clock.now() / 1000);
	const good = {
		iss: ISSUER,
		aud: 'console',
		sub: 'ada',
		sid: 's1',
		jti: 'l1',
		iat: nowS,
		exp: nowS + 60,
		events: EVENTS,
	};
	return await tokens.verifyLogout(await tokenOf(by, { ...good, ...claims }, header)).then(
		({ issuer, subject, sessionId, tokenId }) => `${issuer} ${subject} ${sessionId} ${tokenId}`,
		(error: unknown) => GpuaasError.from(error).reason,
	);
}

const INVALID = 'LOGOUT_TOKEN_INVALID';

describe('a logout token', () => {
	test('says whose session is over, in the form of today and in the older one', async () => {
		expect(await told({})).toBe(`${ISSUER} ada s1 l1`);
		expect(await told({}, { header: { typ: 'JWT' } })).toBe(`${ISSUER} ada s1 l1`);
		expect(await told({ sid: undefined, exp: undefined })).toBe(`${ISSUER} ada  l1`);
		expect(await told({ sub: undefined })).toBe(`${ISSUER}  s1 l1`);
	});

	test.each([
		['another issuer', { iss: 'https://evil.example' }],
		['another client', { aud: 'gpuaas-cli' }],
		['no client', { aud: undefined }],
		['a nonce, as an ID token has', { nonce: 'n' }],
		['no event', { events: {} }],
		['an event that is a text', { events: 'http://schemas.openid.net/event/backchannel-logout' }],
		['neither person nor session', { sub: undefined, sid: undefined }],
		['no id', { jti: undefined }],
		['no beginning', { iat: undefined }],
		['a beginning long ago', { iat: 1_799_999_849, exp: 1_800_000_100 }],
		['a beginning to come', { iat: 1_800_000_031 }],
		['an end that is over', { exp: 1_799_999_969 }],
	])('with %s ends nothing', async (_name, claims) => {
		expect(await told(claims)).toBe(INVALID);
	});

	test('that is an access token, too large, or signed by a stranger ends nothing', async () => {
		expect(await told({}, { header: { typ: 'at+jwt' } })).toBe(INVALID);
		expect(await told({ pad: 'x'.repeat(TOKEN_BYTES_MAX) })).toBe(INVALID);
		expect(await told({}, { by: stranger })).toBe(INVALID);
	});

	test('by a key that came since counts once that is fetched', async () => {
		const provider = new TestProvider([key.jwk]);
		expect(await told({}, { provider })).toBe(`${ISSUER} ada s1 l1`);
		provider.published = [next.jwk];
		expect(await told({}, { provider, by: next })).toBe(INVALID);
		provider.clock.advance(COOLDOWN_MS);
		expect(await told({}, { provider, by: next })).toBe(`${ISSUER} ada s1 l1`);
	});
});
