import fc from 'fast-check';
import { type CryptoKey, exportSPKI, importJWK, SignJWT } from 'jose';
import { beforeAll, describe, expect, test } from 'vitest';
import { GpuaasError } from '../../../kit/error.ts';
import { TOKEN_BYTES_MAX } from './rules.ts';
import { type SigningKey, signingKey, TestProvider } from './test-provider.ts';

let key: SigningKey;
let rsa: SigningKey;
let stranger: SigningKey;

beforeAll(async () => {
	[key, rsa, stranger] = await Promise.all([signingKey('k1'), signingKey('r1', 'RS256'), signingKey('k1')]);
});

async function reasonOf(provider: TestProvider, token: string): Promise<string> {
	return await provider.verifier.verify(token).then(
		() => 'OK',
		(error: unknown) => (error instanceof GpuaasError ? error.reason : `not ours: ${String(error)}`),
	);
}

const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

describe('a good token', () => {
	test('says who came, when and how', async () => {
		const provider = new TestProvider([key.jwk]);
		const nowMs = provider.clock.now();
		expect(await provider.verifier.verify(await provider.token(key, { sid: 's1', amr: ['pwd'] }))).toEqual({
			issuer: 'https://id.example/realms/gpuaas',
			subject: 'subject-1',
			tokenId: 'token-1',
			clientId: 'gpuaas-cli',
			sessionId: 's1',
			acr: 'urn:gpuaas:acr:password',
			amr: ['pwd'],
			authenticatedAtMs: nowMs - 10_000,
			issuedAtMs: nowMs,
			expiresAtMs: nowMs + 300_000 + 30_000,
			email: 'alice@example.com',
			emailVerified: true,
			displayName: '',
			keysFresh: true,
		});
	});

	test.each([
		['RFC 9068 by client_id', { azp: undefined, client_id: 'gpuaas-cli' }, {}],
		['the audience as one text', { aud: 'gpuaas' }, {}],
		['the long form of the type', {}, { typ: 'application/at+jwt' }],
		['Keycloak without RFC 9068', { typ: 'Bearer' }, { typ: 'JWT' }],
		['a clock 25 s ahead of ours', { iat: 1_800_000_025, exp: 1_800_000_300 }, {}],
	])('%s', async (_name, claims, header) => {
		const provider = new TestProvider([key.jwk]);
		expect(await reasonOf(provider, await provider.token(key, claims, header))).toBe('OK');
	});

	test('brings a verified address only where it says so in so many words', async () => {
		const provider = new TestProvider([key.jwk]);
		for (const said of [undefined, false, 'true', 1]) {
			const token = await provider.token(key, { email_verified: said });
			expect(await provider.verifier.verify(token), String(said)).toMatchObject({ emailVerified: false });
		}
	});

	test('is remembered no longer than it lives', async () => {
		const provider = new TestProvider([key.jwk]);
		const token = await provider.token(key);
		expect(await reasonOf(provider, token)).toBe('OK');
		provider.clock.advance(299_000 + 30_000);
		expect(await reasonOf(provider, token)).toBe('OK');
		provider.clock.advance(2000);
		expect(await reasonOf(provider, token)).toBe('ACCESS_TOKEN_EXPIRED');
	});
});

describe('a token that is no login', () => {
	test.each([
		['another issuer', 'ACCESS_TOKEN_ISSUER', { iss: 'https://evil.example' }, {}],
		['the issuer with a slash more', 'ACCESS_TOKEN_ISSUER', { iss: 'https://id.example/realms/gpuaas/' }, {}],
		['another audience', 'ACCESS_TOKEN_AUDIENCE', { aud: 'account' }, {}],
		['no audience', 'ACCESS_TOKEN_AUDIENCE', { aud: undefined }, {}],
		['another client', 'ACCESS_TOKEN_CLIENT', { azp: 'other-app' }, {}],
		['no client', 'ACCESS_TOKEN_CLIENT', { azp: undefined }, {}],
		['two clients', 'ACCESS_TOKEN_CLIENT', { client_id: 'other-app' }, {}],
		['an ID token by its header', 'ACCESS_TOKEN_TYPE', { typ: 'ID' }, { typ: 'JWT' }],
		['an ID token that claims to be an access token', 'ACCESS_TOKEN_TYPE', { typ: 'ID' }, {}],
		['an ID token without a type', 'ACCESS_TOKEN_TYPE', { at_hash: 'x' }, { typ: undefined }],
		['an ID token by its at_hash', 'ACCESS_TOKEN_TYPE', { at_hash: 'x' }, {}],
		['a refresh token', 'ACCESS_TOKEN_TYPE', { typ: 'Refresh' }, { typ: 'JWT' }],
		['an offline token', 'ACCESS_TOKEN_TYPE', { typ: 'Offline' }, {}],
		['a logout token', 'ACCESS_TOKEN_TYPE', {}, { typ: 'logout+jwt' }],
		['a logout token by its events', 'ACCESS_TOKEN_TYPE', { events: {} }, {}],
		['one bound to a key', 'ACCESS_TOKEN_TYPE', { cnf: { jkt: 'x' } }, {}],
		['expired', 'ACCESS_TOKEN_EXPIRED', { iat: 1_799_999_600, exp: 1_799_999_969 }, {}],
		['no end', 'ACCESS_TOKEN_TIME', { exp: undefined }, {}],
		['an end that is a text', 'ACCESS_TOKEN_TIME', { exp: '1900000000' }, {}],
		['not yet valid', 'ACCESS_TOKEN_TIME', { nbf: 1_800_000_031 }, {}],
		['made in the future', 'ACCESS_TOKEN_TIME', { iat: 1_800_000_031, exp: 1_800_000_300 }, {}],
		['good for too long', 'ACCESS_TOKEN_TIME', { exp: 1_800_000_601 }, {}],
		['made long ago', 'ACCESS_TOKEN_TIME', { iat: 1_799_999_300, exp: 1_800_000_100 }, {}],
		['a login in the future', 'ACCESS_TOKEN_TIME', { auth_time: 1_800_000_100 }, {}],
		['no subject', 'ACCESS_TOKEN_CLAIMS', { sub: undefined }, {}],
		['an empty subject', 'ACCESS_TOKEN_CLAIMS', { sub: '' }, {}],
		['a subject too long', 'ACCESS_TOKEN_CLAIMS', { sub: 'x'.repeat(256) }, {}],
		['no token id', 'ACCESS_TOKEN_CLAIMS', { jti: undefined }, {}],
	])('%s: %s', async (_name, reason, claims, header) => {
		const provider = new TestProvider([key.jwk]);
		expect(await reasonOf(provider, await provider.token(key, claims, header))).toBe(reason);
	});

	test('alg none', async () => {
		const provider = new TestProvider([key.jwk]);
		const [, payload] = (await provider.token(key)).split('.');
		for (const alg of ['none', 'None', 'NONE']) {
			const unsigned = `${part({ alg, typ: 'at+jwt' })}.${payload}.`;
			expect(await reasonOf(provider, unsigned)).toBe('ACCESS_TOKEN_ALGORITHM');
		}
	});

	test('key confusion: a shared-secret signature made with the public key', async () => {
		const provider = new TestProvider([rsa.jwk]);
		const claims = JSON.parse(Buffer.from((await provider.token(rsa)).split('.')[1] ?? '', 'base64url').toString());
		const spki = await exportSPKI((await importJWK(rsa.jwk, rsa.alg, { extractable: true })) as CryptoKey);
		const forged = await new SignJWT(claims)
			.setProtectedHeader({ alg: 'HS256', kid: rsa.kid, typ: 'at+jwt' })
			.sign(new TextEncoder().encode(spki));
		expect(await reasonOf(provider, forged)).toBe('ACCESS_TOKEN_ALGORITHM');
	});

	test('an algorithm that the key is not for', async () => {
		const provider = new TestProvider([key.jwk, rsa.jwk]);
		expect(await reasonOf(provider, await provider.token(rsa, {}, { kid: 'k1' }))).toBe('ACCESS_TOKEN_SIGNATURE');
	});

	test("a stranger's key under a known key id", async () => {
		const provider = new TestProvider([key.jwk]);
		expect(await reasonOf(provider, await provider.token(stranger))).toBe('ACCESS_TOKEN_SIGNATURE');
	});

	test('a key that the token brings along', async () => {
		const provider = new TestProvider([key.jwk]);
		const token = await provider.token(stranger, {}, { jwk: stranger.jwk, jku: 'https://evil.example/keys', kid: 'x' });
		expect(await reasonOf(provider, token)).toBe('ACCESS_TOKEN_SIGNATURE');
	});

	test('an unknown critical header, and an unencoded payload', async () => {
		const provider = new TestProvider([key.jwk]);
		const [, payload, signature] = (await provider.token(key)).split('.');
		const header = part({ alg: 'ES256', kid: 'k1', typ: 'at+jwt', crit: ['x'], x: 1 });
		expect(await reasonOf(provider, `${header}.${payload}.${signature}`)).toBe('ACCESS_TOKEN_MALFORMED');
		const raw = part({ alg: 'ES256', kid: 'k1', typ: 'at+jwt', crit: ['b64'], b64: false });
		expect(await reasonOf(provider, `${raw}.${payload}.${signature}`)).toBe('ACCESS_TOKEN_SIGNATURE');
	});

	test('too large, before anything of it is parsed', async () => {
		const provider = new TestProvider([key.jwk]);
		const token = await provider.token(key, { pad: 'x'.repeat(TOKEN_BYTES_MAX) });
		expect(await reasonOf(provider, token)).toBe('ACCESS_TOKEN_TOO_LARGE');
		expect(provider.fetches).toBe(0);
	});

	test('a changed payload under a good signature', async () => {
		const provider = new TestProvider([key.jwk]);
		const [header, payload, signature] = (await provider.token(key)).split('.');
		const claims = JSON.parse(Buffer.from(payload ?? '', 'base64url').toString());
		const changed = `${header}.${part({ ...claims, sub: 'root' })}.${signature}`;
		expect(await reasonOf(provider, changed)).toBe('ACCESS_TOKEN_SIGNATURE');
	});
});

test('a token has one text: what decodes to the same is refused', async () => {
	const provider = new TestProvider([key.jwk]);
	const token = await provider.token(key);
	expect(await reasonOf(provider, token)).toBe('OK');
	// 64 bytes leave four bits of the last character unused.
	const digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
	const last = digits.indexOf(token.at(-1) ?? '');
	for (const other of [`${token.slice(0, -1)}${digits[last ^ 1]}`, `${token}=`, `${token}\n`, `${token}.`])
		expect(await reasonOf(provider, other)).toBe('ACCESS_TOKEN_MALFORMED');
});

test('whatever the bytes are, the answer is a reason of ours and never a login', async () => {
	const provider = new TestProvider([key.jwk]);
	const good = (await provider.token(key)).split('.');
	const json = fc.json().map((text) => Buffer.from(text).toString('base64url'));
	const piece = fc.oneof(fc.base64String(), fc.string(), json, fc.constantFrom(...good));
	const tokens = fc.oneof(
		fc.array(piece, { maxLength: 6 }).map((parts) => parts.join('.')),
		fc
			.tuple(fc.nat(good.join('.').length - 1), fc.constantFrom('A', 'b', '.', '=', ' ', '\0', '€'))
			.map(([at, other]) => good.join('.').slice(0, at) + other + good.join('.').slice(at + 1)),
	);
	await fc.assert(
		fc.asyncProperty(tokens, async (token) => {
			const reason = await reasonOf(provider, token);
			if (token === good.join('.')) expect(reason).toBe('OK');
			else expect(reason).toMatch(/^ACCESS_TOKEN_[A-Z_]+$/);
		}),
		{ numRuns: 2000 },
	);
});
