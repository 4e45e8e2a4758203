import { beforeAll, expect, test } from 'vitest';
import { systemClock, yieldTurn } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { type Logger, silentLogger } from '../../../kit/log.ts';
import { type SigningKey, signingKey, TestProvider } from './test-provider.ts';

/** What is promised: not read from the code, which may be wrong. */
const COOLDOWN_MS = 30_000;
const FRESH_MS = 600_000;
const STALE_MAX_MS = 3_600_000;
const TIMEOUT_MS = 5000;

let one: SigningKey;
let two: SigningKey;

beforeAll(async () => {
	[one, two] = await Promise.all([signingKey('k1'), signingKey('k2')]);
});

async function reasonOf(provider: TestProvider, key: SigningKey): Promise<string> {
	return await provider.verifier.verify(await provider.token(key, { jti: String(provider.clock.now()) })).then(
		({ keysFresh }) => (keysFresh ? 'fresh' : 'stale'),
		(error: unknown) => GpuaasError.from(error).reason,
	);
}

test('a new key is found at once, and invented key ids cost one fetch a cooldown', async () => {
	const provider = new TestProvider([one.jwk]);
	expect(await reasonOf(provider, one)).toBe('fresh');
	provider.published = [one.jwk, two.jwk];
	provider.clock.advance(COOLDOWN_MS);
	expect(await reasonOf(provider, two)).toBe('fresh');
	expect(provider.fetches).toBe(4);
	const invented = await Promise.all(Array.from({ length: 50 }, (_, index) => signingKey(`invented-${index}`)));
	for (const key of invented) expect(await reasonOf(provider, key)).toBe('ACCESS_TOKEN_SIGNATURE');
	expect(provider.fetches).toBe(4);
	provider.clock.advance(COOLDOWN_MS - 1);
	for (const key of invented) await reasonOf(provider, key);
	expect(provider.fetches).toBe(4);
	provider.clock.advance(1);
	for (const key of invented) await reasonOf(provider, key);
	expect(provider.fetches).toBe(6);
});

test('while the provider is away its last good keys verify for reads, and then nothing does', async () => {
	const provider = new TestProvider([one.jwk]);
	expect(await reasonOf(provider, one)).toBe('fresh');
	provider.published = undefined;
	provider.clock.advance(FRESH_MS - 1);
	expect(await reasonOf(provider, one)).toBe('fresh');
	provider.clock.advance(1);
	expect(await reasonOf(provider, one)).toBe('stale');
	provider.clock.advance(STALE_MAX_MS - FRESH_MS);
	expect(await reasonOf(provider, one)).toBe('stale');
	provider.clock.advance(1);
	expect(await reasonOf(provider, one)).toBe('ISSUER_UNAVAILABLE');
	provider.published = [one.jwk];
	provider.clock.advance(COOLDOWN_MS);
	expect(await reasonOf(provider, one)).toBe('fresh');
});

test('a provider that hangs is waited for once; then its last good keys answer at once, and its return is seen', async () => {
	const provider = new TestProvider([one.jwk]);
	const { keys, clock } = provider;
	await keys.current();
	provider.isSilent = true;
	clock.advance(FRESH_MS);
	const first = keys.current();
	clock.advance(TIMEOUT_MS);
	expect((await first).fresh).toBe(false);
	for (let tries = 1; tries <= 3; tries += 1) {
		clock.advance(COOLDOWN_MS);
		// No time goes by here: whoever waited would do so for ever.
		const found = await Promise.all([keys.current(), keys.current()]);
		expect(found.map(({ fresh }) => fresh)).toEqual([false, false]);
		expect(provider.fetches).toBe(3 + tries);
		clock.advance(TIMEOUT_MS);
		await yieldTurn(systemClock);
	}
	provider.isSilent = false;
	clock.advance(COOLDOWN_MS);
	expect((await keys.current()).fresh).toBe(false);
	await keys.renewed();
	expect((await keys.current()).fresh).toBe(true);
	// The next time the keys come to their end they are waited for again.
	clock.advance(FRESH_MS);
	expect((await keys.current()).fresh).toBe(true);
});

test('a key that is withdrawn stops verifying when the keys are next read', async () => {
	const provider = new TestProvider([one.jwk, two.jwk]);
	expect(await reasonOf(provider, two)).toBe('fresh');
	provider.published = [one.jwk];
	provider.clock.advance(FRESH_MS);
	expect(await reasonOf(provider, two)).toBe('ACCESS_TOKEN_SIGNATURE');
});

test('a token that was good is not remembered past the freshness of the keys', async () => {
	const provider = new TestProvider([one.jwk, two.jwk]);
	await reasonOf(provider, two);
	provider.clock.advance(FRESH_MS - 10_000);
	const token = await provider.token(two);
	const verify = () =>
		provider.verifier.verify(token).then(
			() => 'OK',
			(error: unknown) => GpuaasError.from(error).reason,
		);
	expect(await verify()).toBe('OK');
	provider.published = [one.jwk];
	provider.clock.advance(9999);
	expect(await verify()).toBe('OK');
	provider.clock.advance(1);
	expect(await verify()).toBe('ACCESS_TOKEN_SIGNATURE');
});

test('a rotation with an overlap is planned; one without, or to an unexpected key, is an alert', async () => {
	const errors: string[] = [];
	const log: Logger = { ...silentLogger, error: (message) => void errors.push(message) };
	const provider = new TestProvider([one.jwk], log);
	await reasonOf(provider, one);
	provider.published = [one.jwk, two.jwk];
	provider.clock.advance(FRESH_MS);
	await reasonOf(provider, two);
	expect(errors).toEqual([]);
	expect(provider.metric('gpuaas_oidc_key_changes_total')).toContain('planned="yes"} 1');
	provider.published = [(await signingKey('k3')).jwk];
	provider.clock.advance(FRESH_MS);
	await reasonOf(provider, two);
	expect(errors).toHaveLength(1);
	expect(provider.metric('gpuaas_oidc_key_changes_total')).toContain('planned="no"} 1');

	const pinned = new TestProvider([one.jwk, two.jwk], log, ['k1']);
	expect(await reasonOf(pinned, one)).toBe('fresh');
	expect(errors).toHaveLength(2);
});

test('a discovery document of another issuer gives no keys', async () => {
	const provider = new TestProvider([one.jwk]);
	provider.issuer = 'https://evil.example';
	expect(await reasonOf(provider, one)).toBe('ISSUER_UNAVAILABLE');
});

test('keys are read over TLS, or from this machine', async () => {
	const provider = new TestProvider([one.jwk]);
	provider.jwksUri = 'http://id.example/certs';
	expect(await reasonOf(provider, one)).toBe('ISSUER_UNAVAILABLE');
	expect(provider.fetches).toBe(1);
});

test('a published shared secret is no key', async () => {
	const secret = { kty: 'oct', k: Buffer.from('secret').toString('base64url'), kid: 'k1', alg: 'HS256' };
	expect(await reasonOf(new TestProvider([secret]), one)).toBe('ISSUER_UNAVAILABLE');
});
