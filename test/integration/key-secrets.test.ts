import { afterAll, beforeAll, expect, test } from 'vitest';
import { macOf, mintApiKey, parseApiKey } from '../../control-plane/app/iam/api-key.ts';
import { ApiKeyAuthenticator } from '../../control-plane/app/iam/authenticate.ts';
import { type PepperRing, parsePeppers } from '../../control-plane/app/iam/pepper.ts';
import { PolicyCache } from '../../control-plane/app/iam/policy-view.ts';
import { present } from '../../kit/assert.ts';
import { type Rng, systemRng } from '../../kit/ids.ts';
import { KeyService } from '../../proto/gen/gpuaas/iam/v1/keys_pb.ts';
import { ScopeService } from '../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { credentialRow, principalRow } from '../contract/store/rows.ts';
import { ApiWorld } from './api-world.ts';
import { idOf } from './iam-world.ts';
import { refusalOf } from './refusal.ts';

/** What the text of a key is worth, beside other peppers, installations, kinds and times. */
let world: ApiWorld;
beforeAll(async () => {
	world = await ApiWorld.start();
});
afterAll(() => world[Symbol.asyncDispose]());

const whoAmI = (secret: string) => world.client(SystemService, secret).whoAmI({});

async function taken(key: string, pepper: PepperRing, environment = 'test'): Promise<string> {
	const { deps, uses } = world;
	const door = new ApiKeyAuthenticator({ ...deps, policies: new PolicyCache(), pepper, environment, uses });
	return await door.authenticate(`Bearer ${key}`, { peer: '127.0.0.1' }).then(
		({ id }) => id,
		() => 'refused',
	);
}

test('a key goes on working when a pepper is added, and not when its own is gone', async () => {
	const key = await world.addPrincipal('user', 'tenant.viewer', 'organizations/acme');
	const line = (version: number, bytes: Uint8Array) => `${version} ${Buffer.from(bytes).toString('base64url')}\n`;
	const own = world.deps.secrets.ring.current.export();
	expect(await taken(key, parsePeppers(line(1, own)))).toBe(idOf(key));
	const both = parsePeppers(line(1, own) + line(2, systemRng.bytes(32)));
	expect(both.currentVersion).toBe(2);
	expect(await taken(key, both)).toBe(idOf(key));
	expect(await taken(key, parsePeppers(line(2, own)))).toBe('refused');
	expect(await taken(key, parsePeppers(line(1, systemRng.bytes(32))))).toBe('refused');
});

test('a key of another installation is refused, though all of it fits', async () => {
	const key = await world.addPrincipal('user', 'tenant.viewer', 'organizations/acme');
	expect(await taken(key, world.deps.secrets.ring, 'test')).toBe(idOf(key));
	expect(await taken(key, world.deps.secrets.ring, 'prod')).toBe('refused');
});

test('a key of one kind opens no account of another', async () => {
	const { ring } = world.deps.secrets;
	for (const [kind, prefix] of [
		['service_account', 'uk'],
		['user', 'sk'],
	] as const) {
		const { key, text } = mintApiKey(prefix, 'test', systemRng);
		const verified = { mac: macOf(key, ring.current), pepperVersion: ring.currentVersion };
		await world.deps.store.unit(function* (tx) {
			yield* tx.identities.insertPrincipal(principalRow(`a ${kind}`, { kind }));
			const row = { ...verified, expiresAtMs: world.deps.clock.now() + 60_000 };
			yield* tx.apiKeys.insertCredential(credentialRow(key.id, `a ${kind}`, row));
		});
		expect(await refusalOf(whoAmI(text)), kind).toMatchObject({ code: 'Unauthenticated' });
	}
});

test('a key that has expired says so, and opens nothing', async () => {
	const key = await world.addPrincipal('user', 'tenant.viewer', 'organizations/acme', -1);
	expect(await refusalOf(whoAmI(key))).toMatchObject({
		code: 'Unauthenticated',
		message: expect.stringContaining('the API key has expired; ask for a new one'),
	});
});

/** A well-formed key with the id of another one and a secret of its own. */
function forgedFor(id: string): string {
	const digits = '0123456789abcdefghijklmnopqrstuvwxyz';
	const wanted = Uint8Array.from(id, (digit) => digits.indexOf(digit));
	const bytes: Rng['bytes'] = (length) => (length === wanted.length ? wanted : systemRng.bytes(length));
	return mintApiKey('uk', 'test', { ...systemRng, bytes }).text;
}

test('a good checksum and a known id are worth nothing without the secret, and end nobody’s key', async () => {
	const key = await world.addPrincipal('user', 'tenant.viewer', 'organizations/acme');
	const { id } = present(parseApiKey(key), 'a key');
	const forged = forgedFor(id);
	expect(parseApiKey(forged)).toMatchObject({ id });
	expect(await refusalOf(whoAmI(forged))).toMatchObject({ code: 'Unauthenticated' });
	await world.client(KeyService).reportLeakedKey({ key: forged });
	expect((await whoAmI(key)).principalId).toBe(idOf(key));
	await world.client(KeyService).reportLeakedKey({ key });
	expect(await refusalOf(whoAmI(key))).toMatchObject({ code: 'Unauthenticated' });
});

test('a key that is limited to a scope which is not there reaches nothing', async () => {
	const { ring } = world.deps.secrets;
	const { key, text } = mintApiKey('uk', 'test', systemRng);
	const principalId = idOf(await world.addPrincipal('user', 'platform.operator', 'platform'));
	await world.deps.store.unit(function* (tx) {
		const limits = { permissions: [], scope: 'organizations/never-was', cidrs: [] };
		const row = { id: 'limited', principalId, displayName: '', ...limits, createdAtMs: 1, createdBy: principalId };
		yield* tx.apiKeys.insert({ ...row, revokedAtMs: null, revokedReason: '', version: 1 });
		const verified = { mac: macOf(key, ring.current), pepperVersion: ring.currentVersion, keyId: row.id };
		const times = { expiresAtMs: world.deps.clock.now() + 60_000 };
		yield* tx.apiKeys.insertCredential(credentialRow(key.id, principalId, { ...verified, ...times }));
	});
	const { scopes } = await world.client(ScopeService, text).listScopes({});
	expect(scopes).toEqual([]);
	expect(await refusalOf(world.client(ScopeService, text).getScope({ name: 'organizations/acme' }))).toMatchObject({
		reason: 'SCOPE_NOT_FOUND',
	});
});
