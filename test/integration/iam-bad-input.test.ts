import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { CONTROL_PLANE_SCHEMA } from '../../control-plane/config.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { loadConfig } from '../../kit/config.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { TokenService } from '../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { bindingRow } from '../contract/store/rows.ts';
import { rawSqlite } from '../contract/store/stores.ts';
import { StaticIssuer } from '../providers/static-issuer.ts';
import { ApiWorld } from './api-world.ts';
import { Tab } from './browser-tab.ts';
import { type IamClients, iamClients, idOf } from './iam-world.ts';
import { refusalOf } from './refusal.ts';

/**
 * Whatever people and programs send that must not happen: it is refused with its reason, nothing at all is changed, and
 * the refusal is in the audit log. One world; each case looks at the whole database before and after.
 */
const ORG = 'organizations/globex';
const ORIGIN = 'https://gpuaas.example';
let issuer: StaticIssuer;
let world: ApiWorld;
let owner: IamClients;
let ownerId: string;

beforeAll(async () => {
	issuer = await StaticIssuer.start();
	const { oidc } = loadConfig(CONTROL_PLANE_SCHEMA, { env: {} }).values;
	world = await ApiWorld.start({
		// What was refused is counted until the test asks for it.
		refusalsClock: new VirtualClock(systemClock.now()),
		api: { connectionsPerAddressMax: 2000 },
		oidc: { ...oidc, issuers: [issuer.issuer] },
		web: { clientId: 'gpuaas-console', clientSecret: 'secret', origin: ORIGIN },
	});
	const key = await world.addPrincipal('operator', 'tenant.owner', ORG);
	owner = iamClients(world, key);
	ownerId = idOf(key);
});
afterAll(async () => {
	await world[Symbol.asyncDispose]();
	await issuer[Symbol.asyncDispose]();
});

/** Every row that is not audit; so also the policy epoch. */
function everything(): string {
	const path = join(world.folder, 'store.db');
	const tables = rawSqlite(path, `select name from sqlite_schema where type = 'table' order by name`)
		.map(({ name }) => String(name))
		.filter((name) => !/^(audit_|sqlite_|store_check|leases|credential_uses)/.test(name));
	return JSON.stringify(tables.map((name) => [name, rawSqlite(path, `select * from ${name}`)]));
}

/** The call is refused with this reason, leaves everything as it was, and one record of the refusal. */
async function expectRefused(reason: string, call: () => Promise<unknown>): Promise<void> {
	await world.deps.refusals.flush();
	const [before, records] = [everything(), (await world.audit()).length];
	const refusal = await refusalOf(call());
	expect(refusal).toMatchObject({ reason });
	expect(refusal.message).toMatch(/; |nothing|choose|give|ask|log in/);
	await expectRecorded(reason, before, records);
}

async function expectRecorded(reason: string, before: string, records: number): Promise<void> {
	expect(everything()).toBe(before);
	const fresh = (await world.audit()).slice(records);
	expect(fresh.map((record) => record.reason)).toEqual([reason]);
	expect(['denied', 'failed']).toContain(fresh[0]?.result);
	// The next case of this reason is a first one again.
	await world.deps.refusals.flush();
}

test('a cycle when moving', async () => {
	const make = (parent: string, id: string) =>
		owner.scopes.createScope({ parent, kind: 3, id, displayName: id }).then(({ scope }) => present(scope, 'a scope'));
	const upper = await make(ORG, 'upper');
	const lower = await make(upper.name, 'lower');
	const move = (newParent: string) => () => owner.scopes.moveScope({ name: upper.name, newParent, etag: upper.etag });
	await expectRefused('SCOPE_CYCLE', move(lower.name));
	await expectRefused('SCOPE_CYCLE', move(upper.name));
});

test('the last owner, by every way out', async () => {
	const { bindings } = await owner.access.listBindings({ parent: ORG, pageSize: 1000 });
	const { name = '', etag = '' } = bindings.find(({ role }) => role === 'tenant.owner') ?? {};
	await expectRefused('LAST_OWNER', () => owner.access.deleteBinding({ name, etag }));
	await expectRefused('LAST_OWNER', () => owner.principals.removeMember({ name: `${ORG}/members/${ownerId}` }));
	const soon = { seconds: BigInt(Math.floor(world.deps.clock.now() / 1000) + 3600), nanos: 0 };
	await expectRefused('LAST_OWNER', () => owner.access.updateBinding({ name, etag, expiresAt: soon }));
});

test('self-lockout, by roles and by guardrails', async () => {
	const key = await world.addPrincipal('operator', 'tenant.admin', ORG);
	const admin = iamClients(world, key);
	const { bindings } = await admin.access.listBindings({ parent: ORG, pageSize: 1000 });
	const own = bindings.find(({ principalId }) => principalId === idOf(key));
	const drop = { name: own?.name ?? '', etag: own?.etag ?? '' };
	await expectRefused('SELF_LOCKOUT', () => admin.access.deleteBinding(drop));
	const forbid = { parent: ORG, permissions: ['guardrails.*'], reason: 'x' };
	await expectRefused('GUARDRAIL_LOCKOUT', () => owner.access.createGuardrail(forbid));
});

test('names that could be taken for others', async () => {
	const make = (displayName: string, id = 'fresh') =>
		owner.scopes.createScope({ parent: ORG, kind: 4, id, displayName });
	await make('Paypal', 'paypal');
	// Mixed scripts, an invisible character, one that turns the direction, and a twin of a sibling.
	for (const displayName of ['Pаypal', 'pay\u200bpal', 'abc\u202ecba', 'PAYPAL', 'Ρауρаl'])
		await expectRefused('NAME_CONFUSABLE', () => make(displayName));
	const named = { parent: ORG, id: 'fresh', displayName: 'Pаypal' };
	const { principals, access } = owner;
	await expectRefused('NAME_CONFUSABLE', () => principals.createGroup(named));
	await expectRefused('NAME_CONFUSABLE', () => principals.createServiceAccount(named));
	await expectRefused('NAME_CONFUSABLE', () => access.createRole({ ...named, permissions: ['scopes.get'] }));
});

test('what changed meanwhile, and what is there already', async () => {
	const make = (displayName: string) => owner.scopes.createScope({ parent: ORG, kind: 4, id: 'twice', displayName });
	const { scope } = await make('twice');
	const rename = { name: scope?.name ?? '', displayName: 'other', etag: 'v9' };
	await expectRefused('ETAG_MISMATCH', () => owner.scopes.renameScope(rename));
	await expectRefused('SCOPE_ID_TAKEN', () => make('again'));
});

test.each([
	['clock-skewed: made in the future', 'ACCESS_TOKEN_TIME', () => issuer.token({}, { iat: 120, exp: 300 })],
	['clock-skewed: not valid yet', 'ACCESS_TOKEN_TIME', () => issuer.token({ nbf: 4_000_000_000 })],
	['good for too long', 'ACCESS_TOKEN_TIME', () => issuer.token({}, { exp: 86_400 })],
	['oversized', 'ACCESS_TOKEN_TOO_LARGE', () => issuer.token({ pad: 'x'.repeat(9000) })],
	['alg none', 'ACCESS_TOKEN_ALGORITHM', async () => issuer.unsigned()],
	['key confusion', 'ACCESS_TOKEN_ALGORITHM', () => issuer.confused()],
	['a stranger’s', 'USER_NOT_INVITED', () => issuer.token()],
])('a token, %s', async (_name, reason, make) => {
	const token = await make();
	await expectRefused(reason, () => world.client(TokenService, token).createToken({}));
	await expectRefused(reason, () => world.client(NodeService, token).listNodes({}));
});

test('a code that is replayed, and an answer to a login that nobody began here', async () => {
	const tab = new Tab({ api: world }, ORIGIN);
	const spent = 'a'.repeat(32);
	const nowMs = world.deps.clock.now();
	await world.deps.store.unit((tx) =>
		tx.browserSessions.insertAttempt({
			id: spent,
			secretSha256: Buffer.alloc(32),
			issuer: issuer.issuer,
			sealed: Buffer.alloc(8),
			returnTo: '/',
			createdAtMs: nowMs,
			expiresAtMs: nowMs + 60_000,
			usedAtMs: nowMs,
		}),
	);
	for (const state of [spent, 'nobody-began-this']) {
		await world.deps.refusals.flush();
		const [before, records] = [everything(), (await world.audit()).length];
		const answer = await tab.send(`/auth/callback?code=stolen&state=${state}`);
		expect(answer.status).toBe(400);
		expect(answer.body).toContain('LOGIN_STATE_INVALID');
		await expectRecorded('LOGIN_STATE_INVALID', before, records);
	}
});

test('a way out of our login page to another site', async () => {
	const tab = new Tab({ api: world }, ORIGIN);
	for (const to of [
		'https://evil.example',
		'//evil.example',
		'/\\evil.example',
		'/%2Fevil.example',
		'/\t/evil.example',
	]) {
		await world.deps.refusals.flush();
		const [before, records] = [everything(), (await world.audit()).length];
		const answer = await tab.send(`/auth/login?return_to=${encodeURIComponent(to)}`);
		expect(answer.status, to).toBe(400);
		expect(answer.body).toContain('RETURN_ADDRESS_INVALID');
		await expectRecorded('RETURN_ADDRESS_INVALID', before, records);
	}
});

test('ten thousand bindings on one principal', async () => {
	const key = await world.addPrincipal('user', 'tenant.viewer', ORG);
	await world.deps.store.unit(function* (tx) {
		for (let index = 0; index < 10_000; index += 1)
			yield* tx.access.insertBinding(bindingRow(`flood-${index}`, idOf(key), { role: `x${index}`, scope: ORG }));
	});
	await expectRefused('TOO_MANY_BINDINGS', () =>
		owner.access.createBinding({ parent: ORG, principalId: idOf(key), role: 'tenant.billing' }),
	);
	// However they came, whoever has them is still decided about.
	expect((await iamClients(world, key).scopes.getScope({ name: ORG })).scope?.name).toBe(ORG);
});
