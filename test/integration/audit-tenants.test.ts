import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { StoreDeps } from '../../control-plane/store/deps.ts';
import { openStore } from '../../control-plane/store/open.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { type AuditRecord, AuditService } from '../../proto/gen/gpuaas/audit/v1/audit_pb.ts';
import { AccessService } from '../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import { PrincipalService } from '../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import { ScopeKind, ScopeService } from '../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { AssignmentMode, NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { TaskService } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { bindingRow } from '../contract/store/rows.ts';
import { PostgresServer } from '../fakes/postgres.ts';
import { ApiWorld } from './api-world.ts';
import { refusalOf } from './refusal.ts';

/** A tenant's own part of the audit log, on both stores. */
let server: PostgresServer;
beforeAll(async () => {
	server = await PostgresServer.start();
});
afterAll(() => server[Symbol.asyncDispose]());

describe.each(['sqlite', 'postgres'] as const)('audit of tenants: %s', (dialect) => {
	let world: ApiWorld;
	let owner: string;
	beforeAll(async () => {
		const url = dialect === 'postgres' ? await server.createDatabase() : undefined;
		// What was refused is counted until the test asks for it.
		const refusalsClock = new VirtualClock(systemClock.now());
		const store = url === undefined ? {} : { openStore: (deps: StoreDeps) => openStore(url, deps) };
		world = await ApiWorld.start({ refusalsClock, ...store });
		owner = await world.addPrincipal('operator', 'tenant.owner', 'organizations/acme');
	});
	afterAll(() => world[Symbol.asyncDispose]());

	/** All pages. */
	async function list(
		key: string,
		more: { organization?: string; newestFirst?: boolean } = {},
		after = { nextPageToken: '' },
	) {
		const client = world.client(AuditService, key);
		const records: AuditRecord[] = [];
		let pageToken = after.nextPageToken;
		do {
			const page = await client.listAuditRecords({ ...more, pageSize: 3, pageToken });
			records.push(...page.records);
			pageToken = page.nextPageToken;
		} while (pageToken !== '');
		return records;
	}

	/** Gives every record its position, as the sequencer does. */
	async function chainAll(): Promise<void> {
		await world.deps.store.unit(function* (tx) {
			const from = ((yield* tx.audit.last())?.seq ?? 0) + 1;
			const rows = yield* tx.audit.listUnchained(10_000);
			yield* tx.audit.chain(rows.map(({ id }, index) => ({ id, seq: from + index, chain: new Uint8Array(32) })));
		});
	}

	async function assignedNode(organization: string): Promise<string> {
		const { id } = await world.addNode();
		const to = { node: id, organization, project: 'train', mode: AssignmentMode.OPERATOR };
		await world.client(NodeService, world.operatorKey).assignNode(to);
		return id;
	}

	test('an owner reads exactly the organization’s records, as the platform does that asks for them', async () => {
		for (const organization of ['acme', 'rival', 'acme']) await assignedNode(organization);
		const scopes = world.client(ScopeService, owner);
		for (const id of ['one', 'two', 'three'])
			await scopes.createScope({ parent: 'organizations/acme', id, kind: 3, displayName: id });
		await chainAll();
		for (const newestFirst of [false, true]) {
			const own = await list(owner, { newestFirst });
			const all = await list(world.operatorKey, { newestFirst });
			expect(own.map(({ seq }) => seq)).toEqual(
				all.filter(({ organization }) => organization === 'acme').map(({ seq }) => seq),
			);
			expect(own.length).toBeGreaterThan(4);
			expect(all.length).toBeGreaterThan(own.length);
			const asked = await list(world.operatorKey, { newestFirst, organization: 'acme' });
			expect(asked.map(({ seq }) => seq)).toEqual(own.map(({ seq }) => seq));
		}
		expect(await list(owner, { organization: 'rival' })).toEqual([]);
	});

	test('however many have no position yet, and whatever gets one meanwhile, each is listed once and none is left out', async () => {
		const idOf = ({ at, action, target }: AuditRecord) => `${at?.seconds}.${at?.nanos} ${action} ${target}`;
		await chainAll();
		for (let index = 0; index < 4; index += 1) await assignedNode('acme');
		const newest = async (key: string) => (await list(key, { newestFirst: true })).map(idOf);
		const waiting = { tenant: await newest(owner), platform: await newest(world.operatorKey) };
		const client = world.client(AuditService, owner);
		const begun = await client.listAuditRecords({ newestFirst: true, pageSize: 2 });
		expect(begun.records.map(({ seq }) => seq)).toEqual([0n, 0n]);
		await chainAll();
		const rest = await list(owner, { newestFirst: true }, begun);
		expect([...begun.records, ...rest].map(idOf)).toEqual(waiting.tenant);
		for (const [key, before] of [
			[owner, waiting.tenant],
			[world.operatorKey, waiting.platform],
		] as const)
			expect((await list(key)).map(idOf).toReversed()).toEqual(before);
	});

	test('names its own people and nobody of the platform', async () => {
		const [own] = (await list(owner)).filter(({ action }) => action === 'scopes.create');
		expect(own).toMatchObject({ actor: 'tenant.owner person', actorKind: 'operator' });
		expect(own?.peer).not.toBe('');
		const [assigned] = (await list(owner)).filter(({ action }) => action === 'nodes.assign');
		expect(assigned).toMatchObject({ actor: '', peer: '', credentialId: '', actorKind: 'operator' });
		const [whole] = (await list(world.operatorKey, { organization: 'acme' })).filter(
			({ action }) => action === 'nodes.assign',
		);
		expect(present(whole, 'the record').actor).not.toBe('');
	});

	test('still names who did it after they have left', async () => {
		const admin = await world.addPrincipal('operator', 'tenant.admin', 'organizations/acme');
		const id = `principal-${admin.split('_')[3]}`;
		const made = { parent: 'organizations/acme', id: 'bobs', kind: ScopeKind.PROJECT, displayName: 'bobs' };
		await world.client(ScopeService, admin).createScope(made);
		await world.client(PrincipalService, owner).removeMember({ name: `organizations/acme/members/${id}` });
		const [record] = (await list(owner, { newestFirst: true })).filter(
			({ target }) => target === 'organizations/acme/projects/bobs',
		);
		expect(record).toMatchObject({ actor: 'tenant.admin person', action: 'scopes.create' });
		expect(record?.peer).not.toBe('');
	});

	test('what somebody was refused elsewhere is in their own organization’s audit, counted, and in no other', async () => {
		const node = await assignedNode('rival');
		const rival = await world.addPrincipal('operator', 'tenant.owner', 'organizations/rival');
		await chainAll();
		const before = await list(owner, { newestFirst: true });
		for (let index = 0; index < 4; index += 1) await refusalOf(world.client(NodeService, owner).getNode({ node }));
		await world.deps.refusals.flush();
		const fresh = (await list(owner, { newestFirst: true })).slice(0, -before.length || undefined);
		const denied = fresh.filter(({ target }) => target === `nodes/${node}`);
		expect(denied).toMatchObject([
			{ action: 'nodes.get', result: 'denied', decisionReason: 'NODE_NOT_FOUND', organization: 'acme' },
			{ action: 'nodes.get', result: 'denied' },
		]);
		expect(denied.map(({ detail }) => detail).toSorted()).toEqual(['{"coalesced":3}', '{}']);
		const theirs = await list(rival, { newestFirst: true });
		expect(theirs.length).toBeGreaterThan(0);
		expect(theirs.every(({ organization }) => organization === 'rival')).toBe(true);
		expect(theirs.filter(({ action }) => action === 'nodes.get')).toEqual([]);
	});

	test('whoever belongs to two is recorded where they asked, and in both where they asked in neither', async () => {
		const key = await world.addPrincipal('user', 'tenant.viewer', 'organizations/acme');
		const id = `principal-${key.split('_')[3]}`;
		await world.deps.store.unit((tx) =>
			tx.identities.insertMember({ organization: 'rival', principalId: id, joinedAtMs: 1, addedBy: id }),
		);
		const client = world.client(ScopeService, key);
		const recorded = async () => {
			const records = (await world.audit()).filter(({ actor }) => actor.id === id);
			return records.map(({ organization }) => organization).toSorted();
		};
		await refusalOf(client.createScope({ parent: 'organizations/acme', id: 'x', kind: 3, displayName: 'x' }));
		expect(await recorded()).toEqual(['acme']);
		// Also of what they may not see there.
		await refusalOf(client.getScope({ name: 'organizations/acme/projects/nowhere' }));
		expect(await recorded()).toEqual(['acme', 'acme']);
		await refusalOf(client.getScope({ name: 'organizations/elsewhere' }));
		expect(await recorded()).toEqual(['acme', 'acme', 'acme', 'rival']);
	});

	test('what a member of two fails at in one is no matter of the other', async () => {
		const key = await world.addPrincipal('user', 'tenant.developer', 'organizations/acme');
		const id = `principal-${key.split('_')[3]}`;
		await world.deps.store.unit(function* (tx) {
			yield* tx.identities.insertMember({ organization: 'rival', principalId: id, joinedAtMs: 1, addedBy: id });
			const role = { role: 'tenant.developer', scope: 'organizations/rival' };
			yield* tx.access.insertBinding(bindingRow(`second-${id}`, id, role));
		});
		const node = await assignedNode('rival');
		await world.client(NodeService, world.operatorKey).cordonNode({ node, reason: 'fan' });
		const spec = { kind: { case: 'run' as const, value: { argv: ['/bin/true'] } } };
		const refused = await refusalOf(world.client(TaskService, key).createTask({ node, spec }));
		expect(refused).toMatchObject({ reason: 'NODE_CORDONED' });
		await refusalOf(world.client(NodeService, key).cordonNode({ node, reason: 'x' }));
		const records = (await world.audit()).filter(({ actor }) => actor.id === id);
		expect(records.map(({ action, organization }) => [action, organization])).toEqual([
			['tasks.create', 'rival'],
			['nodes.cordon', 'rival'],
		]);
	});

	test('it takes the permission at the organization: a project’s admin reads nothing, a developer may not ask', async () => {
		const admin = await world.addPrincipal('user', 'tenant.admin', 'organizations/acme/projects/train');
		expect(await list(admin)).toEqual([]);
		const developer = await world.addPrincipal('user', 'tenant.developer', 'organizations/acme');
		const refused = await refusalOf(world.client(AuditService, developer).listAuditRecords({}));
		expect(refused).toMatchObject({ code: 'PermissionDenied', reason: 'PERMISSION_DENIED' });
	});

	test('a tenant’s guardrail closes its own audit to its people, never to the platform', async () => {
		const parent = 'organizations/rival';
		const rival = await world.addPrincipal('operator', 'tenant.owner', parent);
		await world.client(AccessService, rival).createGuardrail({ parent, permissions: ['audit.list'], reason: 'audit' });
		expect(await list(rival)).toEqual([]);
		const all = await list(world.operatorKey, { newestFirst: true });
		expect(all.some(({ organization }) => organization === 'rival')).toBe(true);
	});
});
