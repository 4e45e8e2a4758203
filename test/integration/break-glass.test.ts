import { generateKeyPairSync, sign } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dispatch } from '../../cli/dispatch.ts';
import { testIo } from '../../cli/test-io.ts';
import { CHALLENGES_OPEN_MAX } from '../../control-plane/app/break-glass/begin.ts';
import { breakGlassKeySha256 } from '../../control-plane/app/break-glass/complete.ts';
import { keyIdOf } from '../../control-plane/app/break-glass/keys.ts';
import {
	BREAK_GLASS_PRINCIPAL_ID,
	BREAK_GLASS_ROLE,
	breakGlassPermissions,
} from '../../control-plane/app/break-glass/rules.ts';
import { ROLES } from '../../control-plane/app/iam/roles.ts';
import { EndJudge } from '../../control-plane/app/terminals/why-end.ts';
import { present } from '../../kit/assert.ts';
import { ApprovalService } from '../../proto/gen/gpuaas/approvals/v1/approvals_pb.ts';
import { BreakGlassKeyKind, BreakGlassService } from '../../proto/gen/gpuaas/break_glass/v1/break_glass_pb.ts';
import { AccessService } from '../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import { KeyService } from '../../proto/gen/gpuaas/iam/v1/keys_pb.ts';
import { PrincipalService } from '../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import { ScopeKind, ScopeService } from '../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { LoginService } from '../../proto/gen/gpuaas/login/v1/login_pb.ts';
import { NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { TerminalService } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { TokenService } from '../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { bindingRow, principalRow } from '../contract/store/rows.ts';
import { ApiWorld } from './api-world.ts';
import { connectedNode } from './channel-mutations.ts';
import { rawCall } from './raw-api.ts';
import { refusalOf } from './refusal.ts';

/** No identity provider is configured here at all: break-glass works without one. */
let world: ApiWorld;
const keys = [0, 1, 2].map(() => generateKeyPairSync('ed25519'));
const spkis = keys.map(({ publicKey }) => publicKey.export({ format: 'der', type: 'spki' }));
const anonymous = () => world.client(BreakGlassService);
const operator = () => world.client(BreakGlassService, world.operatorKey);

function register(on: ApiWorld, index: number, publicKey = spkis[index] ?? Buffer.alloc(0)) {
	const named = { name: `safe ${index}`, kind: BreakGlassKeyKind.ED25519, publicKey };
	return on.client(BreakGlassService, on.operatorKey).registerBreakGlassKey(named);
}

/** Two keys are registered; a third was. */
beforeAll(async () => {
	world = await ApiWorld.start();
	for (const index of [0, 1]) await register(world, index);
	const { key } = await register(world, 2);
	await operator().removeBreakGlassKey({ id: key?.id ?? '' });
});
afterAll(() => world[Symbol.asyncDispose]());

const signed = (index: number, challenge: Uint8Array) => ({
	keyId: keyIdOf(spkis[index] ?? Buffer.alloc(0)),
	signature: sign(null, challenge, keys[index]?.privateKey ?? ''),
});

async function opened(): Promise<string> {
	const { grantId, challenge } = await anonymous().beginBreakGlass({ reason: 'provider is down' });
	const signatures = [signed(0, challenge), signed(1, challenge)];
	return (await anonymous().completeBreakGlass({ grantId, signatures })).key;
}

test('without two registered keys there is nothing to begin', async () => {
	await using fresh = await ApiWorld.start();
	const begin = () => refusalOf(fresh.client(BreakGlassService).beginBreakGlass({ reason: 'x' }));
	const none = { reason: 'BREAK_GLASS_INVALID', message: expect.stringContaining('fewer than 2 keys') };
	expect(await begin()).toMatchObject(none);
	await register(fresh, 0);
	expect(await begin()).toMatchObject(none);
	await register(fresh, 1);
	await fresh.client(BreakGlassService).beginBreakGlass({ reason: 'x' });
	await register(fresh, 2);
	expect(await refusalOf(register(fresh, 2))).toMatchObject({ reason: 'ALREADY_EXISTS' });
	expect(await refusalOf(register(fresh, 3, Buffer.alloc(44)))).toMatchObject({ reason: 'INVALID_REQUEST' });
	const { keys: listed } = await fresh.client(BreakGlassService, fresh.operatorKey).listBreakGlassKeys({});
	expect(listed.map(({ name }) => name)).toEqual(['safe 0', 'safe 1', 'safe 2']);
});

test('two keys open it; one twice, a removed one, a stranger’s or another challenge do not', async () => {
	const { grantId, challenge } = await anonymous().beginBreakGlass({ reason: 'provider is down' });
	const other = await anonymous().beginBreakGlass({ reason: 'another' });
	const attempt = (signatures: { keyId: string; signature: Uint8Array }[]) =>
		anonymous().completeBreakGlass({ grantId, signatures });
	for (const wrong of [
		[signed(0, challenge)],
		[signed(0, challenge), signed(0, challenge)],
		[signed(0, challenge), signed(2, challenge)],
		[signed(0, challenge), signed(1, other.challenge)],
		[signed(0, challenge), { keyId: keyIdOf(spkis[1] ?? Buffer.alloc(0)), signature: signed(0, challenge).signature }],
	])
		expect(await refusalOf(attempt(wrong))).toMatchObject({ reason: 'BREAK_GLASS_INVALID' });
	const { key } = await attempt([signed(1, challenge), signed(0, challenge)]);
	expect(key).toMatch(/^gpu_bg_/);
	expect(await refusalOf(attempt([signed(0, challenge), signed(1, challenge)]))).toMatchObject({
		reason: 'BREAK_GLASS_INVALID',
	});
	await world.deps.refusals.flush();
	const audit = (await world.audit()).filter(({ action }) => action.includes('reak')).map(({ result }) => result);
	expect(audit).toContain('denied');
	expect(JSON.stringify(await world.audit())).not.toContain(key.slice(7));
});

test('every call under it leaves a record, reads too, and it ends when it is ended', async () => {
	const key = await opened();
	const before = (await world.audit()).length;
	await world.client(NodeService, key).listNodes({});
	const { token } = await world.client(TokenService, key).createToken({ nodeName: 'rescued' });
	expect(token?.nodeName).toBe('rescued');
	const records = (await world.audit()).slice(before);
	expect(records.map(({ action, actor }) => `${actor.id} ${action}`)).toEqual([
		'break-glass nodes.get',
		'break-glass tokens.create',
	]);
	await world.client(BreakGlassService, key).endBreakGlass({});
	expect(await refusalOf(world.client(NodeService, key).listNodes({}))).toMatchObject({
		reason: 'BREAK_GLASS_INVALID',
	});
});

test('money, legal holds and the break-glass itself are out of reach', async () => {
	const within = new Set(breakGlassPermissions());
	const kept = [...(ROLES[BREAK_GLASS_ROLE]?.permissions ?? [])].filter((permission) => !within.has(permission));
	expect(kept).toContain('recordings.hold');
	expect(kept).toContain('breakglass.register');
	const key = await opened();
	const publicKey = generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' });
	const persist = world
		.client(BreakGlassService, key)
		.registerBreakGlassKey({ name: 'mine', kind: BreakGlassKeyKind.ED25519, publicKey });
	expect(await refusalOf(persist)).toMatchObject({ code: 'PermissionDenied' });
	await world.client(BreakGlassService, key).endBreakGlass({});
});

test('no key of anybody is made or rotated under it, and one of its own account opens nothing', async () => {
	const parent = 'organizations/acme';
	const { principal } = await world
		.client(PrincipalService, world.operatorKey)
		.createServiceAccount({ parent, id: 'robot', displayName: 'robot' });
	const serviceAccount = principal?.name ?? '';
	const made = await world.client(KeyService, world.operatorKey).createKey({ serviceAccount, displayName: 'k' });
	const key = await opened();
	const under = world.client(KeyService, key);
	for (const call of [
		() => under.createMyKey({ displayName: 'stays' }),
		() => under.rotateMyKey({ keyId: 'any', etag: 'any' }),
		() => under.createKey({ serviceAccount, displayName: 'stays' }),
		() => under.rotateKey({ name: made.key?.name ?? '', etag: made.key?.etag ?? '' }),
	])
		expect(await refusalOf(call())).toMatchObject({ code: 'PermissionDenied', reason: 'BREAK_GLASS_FORBIDDEN' });
	await under.revokeKey({ name: made.key?.name ?? '', reason: 'found' });
	await world.client(BreakGlassService, key).endBreakGlass({});
	// As if one had been made before, or behind the product's back.
	const left = await world.addKey(BREAK_GLASS_PRINCIPAL_ID);
	expect(await refusalOf(world.client(NodeService, left).listNodes({}))).toMatchObject({ code: 'Unauthenticated' });
});

test('nothing that gives access and was made under it outlives its hour', async () => {
	const parent = 'organizations/acme';
	const asOperator = world.client(PrincipalService, world.operatorKey);
	await asOperator.createGroup({ parent, id: 'crew', displayName: 'crew' });
	const person = 'helper';
	const login = { issuer: 'https://id.example', domain: 'acme.example', organization: 'acme' };
	await world.deps.store.unit(function* (tx) {
		yield* tx.identities.insertPrincipal(principalRow(person));
		yield* tx.identities.insertMember({ organization: 'acme', principalId: person, joinedAtMs: 1, addedBy: 'test' });
	});
	const key = await opened();
	const grants = await world.deps.store.read((tx) => tx.breakGlass.listGrants({ afterId: '', limit: 1000 }));
	const endsAtMs = present(
		grants.findLast((grant) => grant.activatedAtMs !== null && grant.endedAtMs === null),
		'open',
	).expiresAtMs;
	const access = world.client(AccessService, key);
	const bind = (role: string, expiresAtMs?: number) =>
		access.createBinding({
			parent: 'platform',
			principalId: person,
			role,
			...(expiresAtMs === undefined ? {} : { expiresAt: timestampFromMs(expiresAtMs) }),
		});
	const { binding } = await bind('platform.viewer');
	expect(timestampMs(present(binding?.expiresAt, 'an end'))).toBe(endsAtMs);
	const { binding: later } = await bind('platform.finance', Date.parse('2100-01-01'));
	expect(timestampMs(present(later?.expiresAt, 'an end'))).toBe(endsAtMs);
	const named = { name: binding?.name ?? '', etag: binding?.etag ?? '' };
	for (const end of [{}, { expiresAt: timestampFromMs(Date.parse('2100-01-01')) }])
		expect(await refusalOf(access.updateBinding({ ...named, ...end }))).toMatchObject({
			reason: 'BREAK_GLASS_FORBIDDEN',
		});
	const { token } = await world.client(TokenService, key).createToken({ ttl: { seconds: 86_400n, nanos: 0 } });
	expect(timestampMs(present(token?.expiresAt, 'an end'))).toBeLessThanOrEqual(endsAtMs ?? 0);
	const before = (await world.audit()).length;
	const under = world.client(PrincipalService, key);
	for (const call of [
		() => under.addGroupMember({ name: `${parent}/groups/crew`, principalId: person }),
		() => under.createInvitation({ parent, email: 'ada@acme.example', role: 'tenant.viewer' }),
		() => world.client(LoginService, key).createLoginDomain(login),
		() =>
			world.client(ScopeService, key).createScope({
				parent: 'platform',
				kind: ScopeKind.ORGANIZATION,
				id: 'fresh',
				displayName: 'fresh',
				ownerId: person,
			}),
		() => world.client(ApprovalService, key).approveApproval({ approvalId: 'any', reason: 'x' }),
	])
		expect(await refusalOf(call())).toMatchObject({ code: 'PermissionDenied', reason: 'BREAK_GLASS_FORBIDDEN' });
	const refused = (await world.audit()).slice(before);
	expect(refused.map(({ result, reason }) => `${result} ${reason}`)).toEqual(
		Array(5).fill('denied BREAK_GLASS_FORBIDDEN'),
	);
	expect((await asOperator.listGroupMembers({ name: `${parent}/groups/crew` })).principals).toEqual([]);
	await world.client(BreakGlassService, key).endBreakGlass({});
});

test('a terminal that was opened under it ends with it, whoever is attached', async () => {
	const node = await connectedNode(world);
	const key = await opened();
	const shell = { kind: { case: 'shell' as const, value: {} } };
	const { terminal } = await world.client(TerminalService, key).openTerminal({ node, spec: shell });
	const why = async (laterMs: number) =>
		await world.deps.store.read(function* (tx) {
			const row = present(yield* tx.terminals.get(terminal?.id ?? ''), 'its row');
			const view = yield* world.deps.policies.committed(tx);
			// As if the agent had opened it, so that nothing else is over.
			const judge = new EndJudge(tx, view, world.deps.clock.now() + laterMs);
			return (yield* judge.judge({ ...row, state: 'open' }, undefined))?.reason;
		});
	expect(await why(0)).toBeUndefined();
	expect(await why(3_600_000)).toBe('CREDENTIAL_REVOKED');
	await world.client(BreakGlassService, key).endBreakGlass({});
	expect(await why(0)).toBe('CREDENTIAL_REVOKED');
});

test('it counts as nobody’s owner, what it acts by can’t be taken away, and each opening restores it', async () => {
	await world.client(BreakGlassService, await opened()).endBreakGlass({});
	const access = world.client(AccessService, world.operatorKey);
	const { bindings } = await access.listBindings({ parent: 'platform' });
	const of = (id: string) => bindings.find(({ principalId }) => principalId === id);
	const kept = { name: of('break-glass')?.name ?? '', etag: of('break-glass')?.etag ?? '' };
	expect(await refusalOf(access.deleteBinding(kept))).toMatchObject({ reason: 'BREAK_GLASS_FORBIDDEN' });
	const expiresAt = timestampFromMs(Date.parse('2100-01-01'));
	expect(await refusalOf(access.updateBinding({ ...kept, expiresAt }))).toMatchObject({
		reason: 'BREAK_GLASS_FORBIDDEN',
	});
	const last = of('bootstrap-operator');
	const drop = access.deleteBinding({ name: last?.name ?? '', etag: last?.etag ?? '' });
	expect(await refusalOf(drop)).toMatchObject({ reason: 'LAST_OWNER' });

	await world.deps.store.unit(function* (tx) {
		yield* tx.access.lockPolicy();
		yield* tx.access.deleteBinding('break-glass');
		yield* tx.access.insertBinding(
			bindingRow('short', 'break-glass', { role: BREAK_GLASS_ROLE, scope: 'platform', expiresAtMs: 1 }),
		);
		yield* tx.identities.updatePrincipal('break-glass', { disabledAtMs: 1, disabledReason: 'x' });
	});
	const key = await opened();
	await world.client(NodeService, key).listNodes({});
	await world.client(BreakGlassService, key).endBreakGlass({});
});

test('strangers can’t keep it shut: each address has its own room, and past all of it the oldest goes', async () => {
	const begin = async (from: string) => {
		const path = '/gpuaas.break_glass.v1.BreakGlassService/BeginBreakGlass';
		return (await rawCall(world, { path, body: '{"reason":"x"}', from })).status;
	};
	const flood = [];
	for (let count = 0; count < 9; count += 1) flood.push(await begin('127.0.0.3'));
	expect(flood).toEqual([...Array(8).fill(200), 429]);
	expect(await begin('127.0.0.4')).toBe(200);

	const template = present(
		await world.deps.store.read((tx) => tx.breakGlass.listGrants({ afterId: '', limit: 1 })),
		'one',
	);
	const nowMs = world.deps.clock.now();
	const waiting = { activatedAtMs: null, secretSha256: null, expiresAtMs: null, endedAtMs: null };
	const row = { ...present(template[0], 'a grant'), ...waiting, challengeExpiresAtMs: nowMs + 60_000 };
	await world.deps.store.unit(function* (tx) {
		for (let count = 0; count < CHALLENGES_OPEN_MAX; count += 1)
			yield* tx.breakGlass.insertGrant({ ...row, id: `00-${String(count).padStart(5, '0')}`, peer: `peer-${count}` });
	});
	expect(await begin('127.0.0.5')).toBe(200);
	const grants = await world.deps.store.read((tx) => tx.breakGlass.listGrants({ afterId: '', limit: 10_000 }));
	expect(grants.filter(({ activatedAtMs }) => activatedAtMs === null)).toHaveLength(CHALLENGES_OPEN_MAX);
	expect(grants.some(({ id }) => id === '00-00000')).toBe(false);
	await world.deps.store.unit((tx) => tx.breakGlass.forgetChallenges(0, nowMs));
	await world.client(BreakGlassService, await opened()).endBreakGlass({});
});

test('a challenge names the installation, counts for ten minutes, and for the address that began it', async () => {
	const begun = await anonymous().beginBreakGlass({ reason: 'provider is down' });
	expect(Buffer.from(begun.challenge).toString()).toContain(` ${world.deps.authority.trustDomain} ${begun.grantId} `);
	const grants = await world.deps.store.read((tx) => tx.breakGlass.listGrants({ afterId: '', limit: 1000 }));
	const row = present(
		grants.find(({ id }) => id === begun.grantId),
		'its row',
	);
	expect(row.challengeExpiresAtMs - row.requestedAtMs).toBe(600_000);
	const signatures = [signed(0, row.challenge), signed(1, row.challenge)];
	const nowMs = world.deps.clock.now();
	for (const [id, patch, why] of [
		['late', { challengeExpiresAtMs: nowMs - 1 }, 'has expired'],
		['elsewhere', { peer: '192.0.2.1' }, 'another address'],
	] as const) {
		await world.deps.store.unit((tx) => tx.breakGlass.insertGrant({ ...row, id, ...patch }));
		expect(await refusalOf(anonymous().completeBreakGlass({ grantId: id, signatures }))).toMatchObject({
			reason: 'BREAK_GLASS_INVALID',
			message: expect.stringContaining(why),
		});
	}
	const { key } = await anonymous().completeBreakGlass({ grantId: begun.grantId, signatures });
	const signers = (await operator().listBreakGlassKeys({})).keys.map(({ id }) => id);
	const record = (await world.audit()).findLast(({ action }) => action === 'breakglass.open');
	expect(record?.detail.signers).toBe(signers.join(' '));
	await world.client(BreakGlassService, key).endBreakGlass({});
});

test('it is over after an hour, and worth nothing from another address', async () => {
	const key = await opened();
	const grants = await world.deps.store.read((tx) => tx.breakGlass.listGrants({ afterId: '', limit: 100 }));
	const grant = grants.find(({ endedAtMs, activatedAtMs }) => endedAtMs === null && activatedAtMs !== null);
	expect(grant?.expiresAtMs).toBe((grant?.activatedAtMs ?? 0) + 3_600_000);
	const from = async (address: string) =>
		(await rawCall(world, { path: '/gpuaas.nodes.v1.NodeService/ListNodes', body: '{}', key, from: address })).status;
	expect(await from('127.0.0.1')).toBe(200);
	expect(await from('127.0.0.2')).toBe(401);
	await world.client(BreakGlassService, key).endBreakGlass({});
	const late = `gpu_bg_${Buffer.alloc(32, 1).toString('base64url')}`;
	const call = () => refusalOf(world.client(NodeService, late).listNodes({}));
	const nowMs = world.deps.clock.now();
	const open = { ...present(grant, 'a grant'), id: 'late', secretSha256: breakGlassKeySha256(late), endedAtMs: null };
	await world.deps.store.unit((tx) => tx.breakGlass.insertGrant({ ...open, expiresAtMs: nowMs - 1 }));
	expect(await call()).toMatchObject({
		message: expect.stringContaining('unknown, over, or used from another address'),
	});
	const good = `gpu_bg_${Buffer.alloc(32, 2).toString('base64url')}`;
	const lasting = { ...open, id: 'lasting', secretSha256: breakGlassKeySha256(good), expiresAtMs: nowMs + 60_000 };
	await world.deps.store.unit((tx) => tx.breakGlass.insertGrant(lasting));
	await world.client(NodeService, good).listNodes({});
	await world.client(BreakGlassService, good).endBreakGlass({});
});

test('the command line: two people, two keys, one hour', async () => {
	const folder = mkdtempSync(join(tmpdir(), 'gpuaas-bg-'));
	try {
		const run = async (argv: readonly string[], stdin = '') => {
			const io = testIo({ GPUAAS_CONFIG_DIR: folder }, stdin);
			const code = await dispatch(argv, io);
			return { code, out: io.out().trim(), err: io.err() };
		};
		const pem = (index: number) => {
			const path = join(folder, `key-${index}`);
			writeFileSync(path, keys[index]?.privateKey.export({ format: 'pem', type: 'pkcs8' }) ?? '');
			return path;
		};
		const login = ['login', world.url, '--ca', world.rootFile(), '--name', 'cp'];
		expect(await run(login, `${world.operatorKey}\n`)).toMatchObject({ code: 0 });
		const begun = JSON.parse((await run(['break-glass', 'begin', '--reason', 'drill', '--json'])).out);
		const signatures = [];
		for (const index of [0, 1])
			signatures.push((await run(['break-glass', 'sign', '--key', pem(index)], begun.challenge)).out);
		expect(await run(['break-glass', 'complete', begun.grantId, ...signatures])).toMatchObject({ code: 0 });
		expect((await run(['whoami'])).out).toContain('break-glass');
		expect(await run(['break-glass', 'end'])).toMatchObject({ code: 0 });
		expect(await run(['whoami'])).toMatchObject({ code: 1 });
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
});
