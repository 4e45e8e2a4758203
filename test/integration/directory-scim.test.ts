import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { ScimDirectory, type ScimSubject } from '../../control-plane/adapters/oidc/scim-directory.ts';
import { DirectoryCheck } from '../../control-plane/app/login/check-directory.ts';
import { scimSettings } from '../../control-plane/settings.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { principalRow, userIdentityRow } from '../contract/store/rows.ts';
import { ScimServer } from '../providers/scim-server.ts';
import { ApiWorld } from './api-world.ts';
import { refusalOf } from './refusal.ts';

/** The directory of a provider that is no Keycloak: SCIM 2.0 over real HTTP. */
const ISSUER = 'https://id.example';
let server: ScimServer;
beforeAll(async () => {
	server = await ScimServer.start();
});
afterAll(() => server[Symbol.asyncDispose]());
beforeEach(() => {
	server.users.clear();
	server.ignoresFilters = false;
	server.replacement = undefined;
	for (const id of ['ada', 'bob', 'eve'])
		server.users.set(id, {
			id: `u-${id}`,
			externalId: `sub-${id}`,
			userName: `${id}@example.org`,
			active: id !== 'eve',
		});
});

async function directory(world: Pick<ApiWorld, 'deps'>, subject: ScimSubject = 'externalId', token = ScimServer.token) {
	return new ScimDirectory({ issuer: ISSUER, url: server.url, token, subject }, world.deps.clock);
}

test('says who is active, disabled and gone, by each attribute, and of nobody else', async () => {
	await using world = await ApiWorld.start();
	const status = async (subject: string, by: ScimSubject = 'externalId') =>
		(await directory(world, by)).statusOf(ISSUER, subject);
	expect([await status('sub-ada'), await status('sub-eve'), await status('sub-nobody')]).toEqual([
		'active',
		'disabled',
		'gone',
	]);
	expect([await status('u-bob', 'id'), await status('EVE@example.org', 'userName')]).toEqual(['active', 'disabled']);
	// Without the attribute, which is optional.
	server.users.set('old', { id: 'u-old', externalId: 'sub-old', userName: 'old' });
	expect(await status('sub-old')).toBe('active');
	// A subject can't be a filter of its own.
	server.asked.length = 0;
	expect(await status('x" or active eq "false')).toBe('gone');
	expect(server.asked[0]).toContain(encodeURIComponent('\\"').replaceAll('%20', '+'));
});

test('a server that can’t be believed says nothing of anybody', async () => {
	await using world = await ApiWorld.start();
	const refused = async (subject = 'sub-eve', token?: string) =>
		await (await directory(world, 'externalId', token)).statusOf(ISSUER, subject).then(
			(status) => status,
			(error: Error) => error.message,
		);
	expect(await refused('sub-eve', 'wrong')).toContain('HTTP 401');
	server.ignoresFilters = true;
	expect(await refused()).toContain('must support filters');
	server.ignoresFilters = false;
	server.users.set('twin', { id: 'u-twin', externalId: 'sub-eve', userName: 'twin', active: false });
	expect(await refused()).toContain('must support filters');
	server.users.clear();
	expect(await refused()).toContain('shows nobody at all');
	for (const replacement of [
		{ status: 404, body: '<html>not found</html>' },
		{ status: 200, body: '{"totalResults":0}' },
		{ status: 200, body: '{"Resources":[]}' },
		// Of something that is no SCIM.
		{ status: 200, body: '{"totalResults":1,"Resources":[{"externalId":"sub-eve","active":false}]}' },
	]) {
		server.replacement = replacement;
		expect(await refused(), replacement.body).toContain('gave no usable answer');
	}
});

test('neither the token nor whom it was about is in what is logged', async () => {
	await using world = await ApiWorld.start();
	server.replacement = { status: 200, body: '<html>a proxy</html>' };
	const said = await (await directory(world)).statusOf(ISSUER, 'sub-eve').catch((error: Error) => error.message);
	expect(said).toContain(`${server.url}/Users gave no usable document`);
	expect(said).not.toContain('sub-eve');
	const folder = mkdtempSync(join(tmpdir(), 'gpuaas-scim-'));
	const file = join(folder, 'token');
	const settings = (token: string) => {
		writeFileSync(file, token, { mode: 0o600 });
		const oidc = { scimUrl: server.url, scimTokenFile: file, scimIssuer: ISSUER, scimSubject: 'id', issuers: [ISSUER] };
		return scimSettings({ oidc } as unknown as Parameters<typeof scimSettings>[0]);
	};
	try {
		expect(settings('tok.en-1=\n')?.token).toBe('tok.en-1=');
		for (const wrong of ['first\nsecret-2', 'secret 2', 'sëcret-2'])
			expect(() => settings(wrong)).toThrow(/^(?!.*secret-2).*scim_token_file/);
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
});

test('who is made inactive there loses the API key here, at the second look; the others keep theirs', async () => {
	await using world = await ApiWorld.start();
	await world.deps.store.unit(function* (tx) {
		for (const id of ['ada', 'bob']) {
			yield* tx.identities.insertPrincipal(principalRow(id));
			yield* tx.identities.insertUserIdentity(userIdentityRow(ISSUER, `sub-${id}`, id));
		}
	});
	const keys = { ada: await world.addKey('ada'), bob: await world.addKey('bob') };
	const whoAmI = (key: string) => world.client(SystemService, key).whoAmI({});
	const check = new DirectoryCheck({ ...world.deps, directory: await directory(world) });
	expect(await check.look()).toBe(0);
	server.users.set('ada', { id: 'u-ada', externalId: 'sub-ada', userName: 'ada@example.org', active: false });
	expect(await check.look()).toBe(0);
	await whoAmI(keys.ada);
	expect(await check.look()).toBe(1);
	expect(await refusalOf(whoAmI(keys.ada))).toMatchObject({ code: 'Unauthenticated' });
	await whoAmI(keys.bob);
});
