import { create, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { endTasks } from '../../control-plane/app/tasks/end-tasks.ts';
import { closeTerminal } from '../../control-plane/app/terminals/end.ts';
import { joinChannel } from '../../control-plane/app/terminals/join-channel.ts';
import { systemContext } from '../../control-plane/context.ts';
import { QuotaReconciler } from '../../control-plane/reconcilers/quotas.ts';
import type { Store } from '../../control-plane/store/port/store.ts';
import { present } from '../../kit/assert.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { FeatureService } from '../../proto/gen/gpuaas/features/v1/features_pb.ts';
import { AccessService } from '../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import { KeyService } from '../../proto/gen/gpuaas/iam/v1/keys_pb.ts';
import { PrincipalService } from '../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import { ScopeKind, ScopeService } from '../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { ChannelHelloSchema } from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { AssignmentMode, NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { EntitlementService, QuotaKind, QuotaService } from '../../proto/gen/gpuaas/quota/v1/quota_pb.ts';
import { TaskService } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { InventorySchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { TerminalService } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { insertProject } from '../contract/store/projects.ts';
import { scopeRow } from '../contract/store/rows.ts';
import { ApiWorld } from './api-world.ts';
import { connectedNode } from './channel-mutations.ts';
import { refusalOf } from './refusal.ts';

let world: ApiWorld;
beforeAll(async () => {
	world = await ApiWorld.start({ api: { connectionsPerAddressMax: 2000 } });
});
afterAll(() => world[Symbol.asyncDispose]());

const H100 = 'NVIDIA H100 80GB HBM3';
const RUN = { kind: { case: 'run' as const, value: { argv: ['/bin/true'] } } };

/** An organization of its own for each test, without entitlements. */
async function tenant(id: string): Promise<{ readonly organization: string; readonly project: string }> {
	await world.deps.store.unit(function* (tx) {
		yield* tx.scopes.insert(scopeRow(`organizations/${id}`, `/${id}/`));
		yield* insertProject(tx, id, 'train');
	});
	return { organization: `organizations/${id}`, project: `organizations/${id}/projects/train` };
}

const clients = (key = world.operatorKey) => ({
	quotas: world.client(QuotaService, key),
	entitlements: world.client(EntitlementService, key),
	nodes: world.client(NodeService, key),
	tasks: world.client(TaskService, key),
	terminals: world.client(TerminalService, key),
	scopes: world.client(ScopeService, key),
	keys: world.client(KeyService, key),
	principals: world.client(PrincipalService, key),
});

async function entitle(parent: string, subject: string): Promise<void> {
	await clients().entitlements.grantEntitlement({ parent, subject });
}

async function setLimit(scope: string, kind: QuotaKind, limit: number, key = world.operatorKey): Promise<void> {
	const { quotas } = clients(key);
	const { etag } = await quotaOf(scope, kind);
	await quotas.setQuota({ scope, kind, limit: BigInt(limit), etag });
}

async function quotaOf(scope: string, kind: QuotaKind) {
	const { quotas } = await clients().quotas.getQuota({ scope });
	return present(
		quotas.find((quota) => quota.kind === kind),
		'every kind is there',
	);
}

/** A node whose agent reported these GPUs while the platform had it. */
async function gpuNode(models: readonly string[] | undefined): Promise<string> {
	const { id } = await world.addNode();
	if (models === undefined) return id;
	const inventory = create(InventorySchema, { digest: 'd', gpus: models.map((name, index) => ({ name, index })) });
	await world.deps.store.unit((tx) =>
		tx.inventories.put({
			nodeId: id,
			custody: 'platform',
			digest: 'd',
			inventory: toBinary(InventorySchema, inventory),
			receivedAtMs: 1,
		}),
	);
	return id;
}

/** One whose store's clock is ahead of this one's by so much. */
function reconcilerAt(isOn: boolean, laterMs: number): QuotaReconciler {
	const { store } = world.deps;
	const later: Store = {
		dialect: store.dialect,
		unit: (plan, options) => store.unit(plan, options),
		read: (plan, options) => store.read(plan, options),
		check: () => store.check(),
		checkIsolation: () => store.checkIsolation(),
		now: async () => (await store.now()) + laterMs,
		[Symbol.asyncDispose]: async () => {},
	};
	const features = { isOn: async () => isOn };
	return new QuotaReconciler({ ...world.deps, store: later, features }, { periodMs: 3_600_000 });
}

function assign(node: string, organization: string, mode: AssignmentMode = AssignmentMode.OPERATOR) {
	return clients().nodes.assignNode({ node, organization: organization.split('/')[1] ?? '', project: 'train', mode });
}

describe('entitlements', () => {
	test('a node goes only to who is entitled to its GPU models, at the time', async () => {
		const { organization, project } = await tenant('models');
		const node = await gpuNode([H100, H100]);
		const before = (await world.audit()).length;
		expect(await refusalOf(assign(node, organization))).toMatchObject({
			code: 'FailedPrecondition',
			reason: 'ENTITLEMENT_MISSING',
		});
		expect((await world.audit()).slice(before)).toMatchObject([{ result: 'failed', reason: 'ENTITLEMENT_MISSING' }]);
		expect((await clients().nodes.getNode({ node })).node?.assignment).toBeUndefined();
		const nowMs = world.deps.clock.now();
		const grant = (more: object) =>
			clients().entitlements.grantEntitlement({ parent: project, subject: `gpu-model/${H100}`, ...more });
		await grant({ from: timestampFromMs(nowMs + 3_600_000) });
		await entitle(organization, 'gpu-model/NVIDIA A100-SXM4-80GB');
		expect(await refusalOf(assign(node, organization))).toMatchObject({ reason: 'ENTITLEMENT_MISSING' });
		const { entitlement } = await grant({ until: timestampFromMs(nowMs + 3_600_000) });
		expect(entitlement?.state).toBe('in force');
		await assign(node, organization);
		// Ended: what was given stays, nothing new is given.
		const { name = '', etag = '' } = entitlement ?? {};
		expect((await clients().entitlements.endEntitlement({ name, etag })).entitlement?.state).toBe('ended');
		expect((await clients().nodes.getNode({ node })).node?.assignment?.project).toBe('train');
		expect(await refusalOf(assign(await gpuNode([H100]), organization))).toMatchObject({
			reason: 'ENTITLEMENT_MISSING',
		});
		expect(await refusalOf(clients().entitlements.endEntitlement({ name, etag }))).toMatchObject({
			reason: 'ETAG_MISMATCH',
		});
		const { entitlements } = await clients().entitlements.listEntitlements({ parent: project });
		expect(entitlements.map(({ state }) => state)).toEqual(['scheduled', 'ended']);
	});

	test('while nobody knows which GPUs a node has it takes all models; host mode takes its own', async () => {
		const { organization } = await tenant('unknown');
		const node = await gpuNode(undefined);
		await entitle(organization, `gpu-model/${H100}`);
		expect(await refusalOf(assign(node, organization))).toMatchObject({ reason: 'ENTITLEMENT_MISSING' });
		await entitle(organization, 'gpu-model/*');
		expect(await refusalOf(assign(node, organization, AssignmentMode.HOST))).toMatchObject({
			reason: 'ENTITLEMENT_MISSING',
		});
		await entitle(organization, 'feature/host-mode');
		await assign(node, organization, AssignmentMode.HOST);
	});

	test('only the platform grants, only what something asks for, and never for a time that is over', async () => {
		const { organization } = await tenant('grants');
		const owner = await world.addPrincipal('operator', 'tenant.owner', organization);
		const asOwner = clients(owner).entitlements;
		expect(await refusalOf(asOwner.grantEntitlement({ parent: organization, subject: 'gpu-model/*' }))).toMatchObject({
			reason: 'PERMISSION_DENIED',
		});
		expect((await asOwner.listEntitlements({ parent: organization })).entitlements).toEqual([]);
		const { entitlements } = clients();
		for (const subject of ['gpu-model/', 'feature/everything', 'gpu-model/ x', 'gpu-model/*x'])
			expect(await refusalOf(entitlements.grantEntitlement({ parent: organization, subject }))).toMatchObject({
				reason: 'ENTITLEMENT_INVALID',
			});
		for (const seconds of [10n ** 15n, 253_402_300_800n, -1n])
			for (const field of ['from', 'until'] as const)
				expect(
					await refusalOf(
						entitlements.grantEntitlement({
							parent: organization,
							subject: 'gpu-model/*',
							[field]: { seconds, nanos: 0 },
						}),
					),
					`${field} ${seconds}`,
				).toMatchObject({ reason: 'ENTITLEMENT_INVALID' });
		const over = { parent: organization, subject: 'gpu-model/*', until: timestampFromMs(1) };
		expect(await refusalOf(entitlements.grantEntitlement(over))).toMatchObject({ reason: 'ENTITLEMENT_INVALID' });
		expect(
			await refusalOf(entitlements.grantEntitlement({ parent: 'platform', subject: 'gpu-model/*' })),
		).toMatchObject({ reason: 'SCOPE_KIND_INVALID' });
	});
});

test('a scope has so many entitlements that have not ended, and no more', async () => {
	const { organization } = await tenant('many');
	const subject = 'feature/host-mode';
	const grant = (more: object = {}) =>
		clients().entitlements.grantEntitlement({ parent: organization, subject, ...more });
	const { entitlement } = await grant();
	const { store } = world.deps;
	const id = entitlement?.name.split('/').at(-1) ?? '';
	const row = present(await store.read((tx) => tx.entitlements.get(id)), 'its row');
	await store.unit(function* (tx) {
		for (let count = 1; count < 1000; count += 1) yield* tx.entitlements.insert({ ...row, id: `${id}-${count}` });
	});
	expect(await refusalOf(grant())).toMatchObject({ code: 'ResourceExhausted', reason: 'TOO_MANY_ENTITLEMENTS' });
	await clients().entitlements.endEntitlement({ name: entitlement?.name ?? '', etag: entitlement?.etag ?? '' });
	await grant();
});

describe('nodes and GPUs', () => {
	test('count with their assignment until it ends', async () => {
		const { organization, project } = await tenant('gpus');
		await entitle(organization, 'gpu-model/*');
		await setLimit(organization, QuotaKind.GPUS, 3);
		const two = await gpuNode([H100, H100]);
		await assign(two, organization);
		expect(await quotaOf(project, QuotaKind.GPUS)).toMatchObject({ used: 2n, effectiveLimit: 3n, available: 1n });
		const node = await gpuNode([H100, H100]);
		expect(await refusalOf(assign(node, organization))).toMatchObject({
			code: 'ResourceExhausted',
			reason: 'QUOTA_EXCEEDED',
			metadata: { scope: organization, kind: 'gpus', limit: '3', used: '2', requested: '2' },
		});
		// The whole unit went back: the node counts nowhere, and is assigned to nobody.
		expect(await quotaOf(project, QuotaKind.NODES)).toMatchObject({ used: 1n });
		expect((await clients().nodes.getNode({ node })).node?.assignment).toBeUndefined();
		// Nobody knows how many it has.
		expect(await refusalOf(assign(await gpuNode(undefined), organization))).toMatchObject({
			reason: 'INVENTORY_MISSING',
		});
		await clients().nodes.unassignNode({ node: two });
		expect(await quotaOf(organization, QuotaKind.GPUS)).toMatchObject({ used: 0n });
		await assign(node, organization);
		await clients().nodes.removeNode({ node });
		expect(await quotaOf(organization, QuotaKind.GPUS)).toMatchObject({ used: 0n, reserved: 0n });
		expect(await quotaOf(organization, QuotaKind.NODES)).toMatchObject({ used: 0n });
	});
});

describe('tasks and terminals', () => {
	test('tasks count until they end, however they end', async () => {
		const { organization, project } = await tenant('tasks');
		await entitle(organization, 'gpu-model/*');
		const node = await gpuNode([]);
		await assign(node, organization);
		const owner = await world.addPrincipal('operator', 'tenant.owner', organization);
		await setLimit(project, QuotaKind.TASKS, 2, owner);
		const { tasks } = clients(await world.addPrincipal('user', 'tenant.developer', project));
		const { task: first } = await tasks.createTask({ node, spec: RUN });
		const { task: second } = await tasks.createTask({ node, spec: RUN });
		expect(await refusalOf(tasks.createTask({ node, spec: RUN }))).toMatchObject({
			reason: 'QUOTA_EXCEEDED',
			metadata: { scope: project, kind: 'tasks', limit: '2', used: '2', reserved: '0', requested: '1' },
		});
		await tasks.cancelTask({ taskId: first?.id ?? '' });
		expect(await quotaOf(project, QuotaKind.TASKS)).toMatchObject({ used: 1n });
		await tasks.createTask({ node, spec: RUN });
		const row = await world.deps.store.read((tx) => tx.tasks.get(second?.id ?? ''));
		const lost = { state: 'lost', reason: 'LEASE_LOST', message: 'x' } as const;
		await endTasks(world.deps, [present(row, 'the task')], lost);
		expect(await quotaOf(project, QuotaKind.TASKS)).toMatchObject({ used: 1n });
		await clients().nodes.unassignNode({ node });
		expect(await quotaOf(organization, QuotaKind.TASKS)).toMatchObject({ used: 0n });
	});

	test('a terminal is reserved while it opens, and given back when it is closed', async () => {
		const { organization, project } = await tenant('terminals');
		await entitle(organization, 'gpu-model/*');
		const node = await connectedNode(world);
		await assign(node, organization);
		await setLimit(organization, QuotaKind.TERMINALS, 2);
		const { terminals } = clients(await world.addPrincipal('user', 'tenant.developer', project));
		const open = () => terminals.openTerminal({ node, spec: { kind: { case: 'shell', value: {} } } });
		const first = present((await open()).terminal, 'a terminal');
		const second = present((await open()).terminal, 'a terminal');
		expect(await quotaOf(project, QuotaKind.TERMINALS)).toMatchObject({ used: 0n, reserved: 2n });
		expect(await refusalOf(open())).toMatchObject({ reason: 'QUOTA_EXCEEDED', metadata: { reserved: '2' } });
		await terminals.killTerminal({ terminalId: first.id });
		const row = present(await world.deps.store.read((tx) => tx.terminals.get(second.id)), 'its row');
		await closeTerminal(world.deps, row, { reason: 'TERMINAL_EXITED', message: '' });
		expect(await quotaOf(organization, QuotaKind.TERMINALS)).toMatchObject({ used: 0n, reserved: 0n });
		await open();
	});

	test('one person may have so many, and what that leaves is for the others', async () => {
		const { organization, project } = await tenant('persons');
		await entitle(organization, 'gpu-model/*');
		const node = await connectedNode(world);
		await assign(node, organization);
		const [ada, bo] = [0, 0].map(async () => clients(await world.addPrincipal('user', 'tenant.developer', project)));
		const opening = async (who: typeof ada) => {
			const { terminals } = await present(who, 'somebody');
			return terminals.openTerminal({ node, spec: { kind: { case: 'shell', value: {} } } });
		};
		const first = present((await opening(ada)).terminal, 'a terminal');
		const { store, rng, limits } = world.deps;
		const max = limits.terminalsOpenPerPersonMax;
		const row = present(await store.read((tx) => tx.terminals.get(first.id)), 'its row');
		await store.unit(function* (tx) {
			for (let count = 1; count < max; count += 1)
				yield* tx.terminals.insert({ ...row, id: uuidv7(row.createdAtMs, rng) });
		});
		const refusal = await refusalOf(opening(ada));
		expect(refusal).toMatchObject({
			reason: 'TOO_MANY_TERMINALS',
			message: expect.stringMatching(/as many as one person may.*gpuaas terminal kill.*open_per_person_max/),
			metadata: { terminals_max: String(max), limit_of: 'person' },
		});
		await opening(bo);
		// The platform's own people take nothing of a tenant's.
		await clients().terminals.openTerminal({ node, spec: { kind: { case: 'shell', value: {} } } });
		await closeTerminal(world.deps, row, { reason: 'TERMINAL_EXITED', message: '' });
		await opening(ada);
	});

	test('one that was opened counts for as long as it is open, however long that is', async () => {
		const { organization, project } = await tenant('joined');
		await entitle(organization, 'gpu-model/*');
		const node = await connectedNode(world);
		await assign(node, organization);
		const { terminals } = clients(await world.addPrincipal('user', 'tenant.developer', project));
		const opened = await terminals.openTerminal({ node, spec: { kind: { case: 'exec', value: { argv: ['cat'] } } } });
		const { id } = present(opened.terminal, 'a terminal');
		const ctx = systemContext('test', world.deps.clock, world.deps.log, 'correlation');
		const recorders = { open: async () => ({ kind: 'unrecorded', isNews: false, why: '' }) as const };
		const hello = create(ChannelHelloSchema, { channelId: id, user: 'ubuntu' });
		await joinChannel({ ...world.deps, recorders } as never, ctx, node, hello, { send() {}, end() {} });
		expect(await quotaOf(organization, QuotaKind.TERMINALS)).toMatchObject({ used: 1n, reserved: 0n });
		await using hours = reconcilerAt(false, 4 * 3_600_000);
		await hours.once();
		expect(await quotaOf(organization, QuotaKind.TERMINALS)).toMatchObject({ used: 1n, reserved: 0n });
		await terminals.killTerminal({ terminalId: id });
		expect(await quotaOf(organization, QuotaKind.TERMINALS)).toMatchObject({ used: 0n, reserved: 0n });
	});

	test('what the platform does on a tenant’s node is not the tenant’s use, and no tenant can forbid it by a limit', async () => {
		const { organization } = await tenant('shut');
		await entitle(organization, 'gpu-model/*');
		const node = await connectedNode(world);
		await assign(node, organization);
		for (const kind of [QuotaKind.TASKS, QuotaKind.TERMINALS]) await setLimit(organization, kind, 0);
		const { task } = await clients().tasks.createTask({ node, spec: RUN });
		await clients().terminals.openTerminal({ node, spec: { kind: { case: 'shell', value: {} } } });
		for (const kind of [QuotaKind.TASKS, QuotaKind.TERMINALS])
			expect(await quotaOf(organization, kind)).toMatchObject({ used: 0n, reserved: 0n });
		await clients().tasks.cancelTask({ taskId: task?.id ?? '' });
		expect(await quotaOf(organization, QuotaKind.TASKS)).toMatchObject({ used: 0n });
	});
});

describe('API keys', () => {
	test('of service accounts count where the account lives, until they are revoked', async () => {
		const { organization, project } = await tenant('keys');
		const owner = clients(await world.addPrincipal('operator', 'tenant.owner', organization));
		await owner.principals.createServiceAccount({ parent: project, id: 'ci', displayName: 'ci' });
		const serviceAccount = `${project}/serviceAccounts/ci`;
		await setLimit(organization, QuotaKind.API_KEYS, 1);
		const { key } = await owner.keys.createKey({ serviceAccount, displayName: 'one' });
		const another = () => owner.keys.createKey({ serviceAccount, displayName: 'two' });
		expect(await refusalOf(another())).toMatchObject({ reason: 'QUOTA_EXCEEDED', metadata: { scope: organization } });
		await owner.keys.rotateKey({ name: key?.name ?? '', etag: key?.etag ?? '' });
		expect(await quotaOf(project, QuotaKind.API_KEYS)).toMatchObject({ used: 1n });
		await owner.keys.revokeKey({ name: key?.name ?? '' });
		await another();
		const { principal } = await owner.principals.getServiceAccount({ name: serviceAccount });
		await owner.principals.deleteServiceAccount({ name: serviceAccount, etag: principal?.etag ?? '' });
		expect(await quotaOf(organization, QuotaKind.API_KEYS)).toMatchObject({ used: 0n });
	});
});

test('a key counts until the last of its secrets ends, not the newest', async () => {
	const { organization, project } = await tenant('rotated');
	const owner = clients(await world.addPrincipal('operator', 'tenant.owner', organization));
	await owner.principals.createServiceAccount({ parent: project, id: 'ci', displayName: 'ci' });
	const { key } = await owner.keys.createKey({
		serviceAccount: `${project}/serviceAccounts/ci`,
		displayName: 'one',
		ttl: { seconds: 86_400n * 30n, nanos: 0 },
	});
	await owner.keys.rotateKey({
		name: key?.name ?? '',
		etag: key?.etag ?? '',
		ttl: { seconds: 60n, nanos: 0 },
		overlap: { seconds: 86_400n, nanos: 0 },
	});
	const id = key?.name.split('/').at(-1) ?? '';
	const [held] = await world.deps.store.read((tx) => tx.quotas.reservations('api_keys', [id]));
	const versions = await world.deps.store.read((tx) => tx.apiKeys.credentialsOf([id]));
	expect(held?.expiresAtMs).toBe(Math.max(...versions.map(({ expiresAtMs }) => expiresAtMs)));
	const used = async (laterMs: number) => {
		await using reconciler = reconcilerAt(false, laterMs);
		await reconciler.once();
		return (await quotaOf(organization, QuotaKind.API_KEYS)).used;
	};
	expect(await used(3_600_000)).toBe(1n);
	// Whatever end was noted of it: what is there counts.
	await world.deps.store.unit((tx) =>
		tx.quotas.updateReservation('api_keys', id, { state: 'committed', expiresAtMs: 1 }),
	);
	expect(await used(3_600_000)).toBe(1n);
	expect(await used(2 * 86_400_000)).toBe(0n);
});

describe('limits', () => {
	test('are given from above: nobody raises their own', async () => {
		const { organization, project } = await tenant('above');
		const owner = await world.addPrincipal('operator', 'tenant.owner', organization);
		const admin = await world.addPrincipal('operator', 'tenant.admin', project);
		const kind = QuotaKind.TASKS;
		for (const [key, scope] of [
			[owner, organization],
			[admin, project],
		] as const)
			expect(await refusalOf(setLimit(scope, kind, 100, key))).toMatchObject({ reason: 'PERMISSION_DENIED' });
		await setLimit(organization, kind, 10);
		expect(await refusalOf(setLimit(project, kind, 11, owner))).toMatchObject({
			reason: 'QUOTA_LIMIT_INVALID',
			metadata: { scope: organization, limit: '10' },
		});
		await setLimit(project, kind, 10, owner);
		// Lowered above: the lower one counts below, too.
		await setLimit(organization, kind, 4);
		expect(await quotaOf(project, kind)).toMatchObject({ limit: 10n, effectiveLimit: 4n, available: 4n });
	});

	test('take the etag of what was read, and can be taken away', async () => {
		const { organization } = await tenant('etags');
		const { quotas } = clients();
		const asked = { scope: organization, kind: QuotaKind.NODES, limit: 1n };
		const { quota } = await quotas.setQuota({ ...asked, etag: 'v1' });
		expect(await refusalOf(quotas.setQuota({ ...asked, etag: 'v1' }))).toMatchObject({
			code: 'Aborted',
			reason: 'ETAG_MISMATCH',
		});
		const { quota: lifted } = await quotas.setQuota({ scope: organization, kind: asked.kind, etag: quota?.etag ?? '' });
		expect(lifted?.limit).toBeUndefined();
		expect(await refusalOf(quotas.getQuota({ scope: 'platform' }))).toMatchObject({ reason: 'SCOPE_KIND_INVALID' });
	});

	test('what a guardrail further down keeps from being looked at is in no list of use', async () => {
		const { organization, project } = await tenant('railed');
		await entitle(organization, 'gpu-model/*');
		await assign(await gpuNode([]), organization);
		const owner = clients(await world.addPrincipal('operator', 'tenant.owner', organization));
		const reader = clients(await world.addPrincipal('user', 'tenant.viewer', organization));
		const listed = async () =>
			(await reader.quotas.listQuotaUsage({ scope: organization })).quotas.map(({ scope }) => scope);
		expect(await listed()).toContain(project);
		await world
			.client(AccessService, await world.addPrincipal('operator', 'tenant.owner', organization))
			.createGuardrail({
				parent: project,
				permissions: ['quotas.get'],
				principalKinds: ['user'],
				reason: 'x',
			});
		expect(await refusalOf(reader.quotas.getQuota({ scope: project }))).toMatchObject({ code: 'PermissionDenied' });
		expect(await listed()).not.toContain(project);
		expect(await listed()).toContain(organization);
		expect((await owner.quotas.listQuotaUsage({ scope: organization })).quotas.map(({ scope }) => scope)).toContain(
			project,
		);
	});

	test('take a login that was stepped up, as entitlements and features do', async () => {
		const { organization } = await tenant('plain');
		const key = await world.addPrincipal('user', 'platform.operator', 'platform');
		const plain = clients(key);
		for (const call of [
			() => plain.quotas.setQuota({ scope: organization, kind: QuotaKind.NODES, limit: 1n, etag: 'v1' }),
			() => plain.entitlements.grantEntitlement({ parent: organization, subject: 'feature/host-mode' }),
			() => plain.entitlements.endEntitlement({ name: `${organization}/entitlements/x`, etag: 'v1' }),
			() => world.client(FeatureService, key).setFeature({ feature: 'quota-warnings', scope: 'platform' }),
		])
			expect(await refusalOf(call())).toMatchObject({ reason: 'STEP_UP_REQUIRED' });
	});

	test('what moves takes its use along, and is refused where there is no room', async () => {
		const { organization, project } = await tenant('moves');
		await entitle(organization, 'gpu-model/*');
		const owner = clients(await world.addPrincipal('operator', 'tenant.owner', organization));
		await owner.scopes.createScope({ parent: organization, kind: ScopeKind.DEPARTMENT, id: 'lab', displayName: 'lab' });
		const lab = `${organization}/departments/lab`;
		await setLimit(lab, QuotaKind.NODES, 0);
		await assign(await gpuNode([]), organization);
		const { scope } = await owner.scopes.getScope({ name: project });
		const move = () => owner.scopes.moveScope({ name: project, newParent: lab, etag: scope?.etag ?? '' });
		expect(await refusalOf(move())).toMatchObject({ reason: 'QUOTA_EXCEEDED', metadata: { scope: lab } });
		await setLimit(lab, QuotaKind.NODES, 1);
		await move();
		const { quotas } = await owner.quotas.listQuotaUsage({ scope: organization });
		expect(
			quotas.filter(({ kind }) => kind === QuotaKind.NODES).map((row) => `${row.scope} ${row.used} of ${row.limit}`),
		).toEqual([`${lab} 1 of 1`, `${organization} 1 of undefined`, `${project} 1 of undefined`].sort());
		// A page of one scope at a time shows the same.
		const paged = [];
		for (let pageToken = ''; ; ) {
			const page = await owner.quotas.listQuotaUsage({ scope: organization, pageSize: 1, pageToken });
			paged.push(...page.quotas);
			pageToken = page.nextPageToken;
			if (pageToken === '') break;
		}
		expect(paged).toEqual(quotas);
	});
});

describe('the reconciler', () => {
	const reconciler = (isOn: boolean, laterMs = 0) => reconcilerAt(isOn, laterMs);

	test('releases what ended by itself, and what its holder left behind', async () => {
		const { organization, project } = await tenant('ended');
		await entitle(organization, 'gpu-model/*');
		const node = await connectedNode(world);
		await assign(node, organization);
		const { terminals, tasks } = clients(await world.addPrincipal('user', 'tenant.developer', project));
		await terminals.openTerminal({ node, spec: { kind: { case: 'shell', value: {} } } });
		const { task } = await tasks.createTask({ node, spec: RUN });
		await using ours = reconciler(false, 600_000);
		await ours.once();
		expect(await quotaOf(organization, QuotaKind.TERMINALS)).toMatchObject({ reserved: 0n });
		expect(await quotaOf(organization, QuotaKind.TASKS)).toMatchObject({ used: 1n });
		// Ended behind everybody's back.
		await world.deps.store.unit((tx) => tx.tasks.update(task?.id ?? '', { state: 'lost', endedAtMs: 1 }));
		const before = (await world.audit()).length;
		await ours.once();
		expect(await quotaOf(organization, QuotaKind.TASKS)).toMatchObject({ used: 0n });
		expect((await world.audit()).slice(before).map(({ action }) => action)).toEqual(['quotas.repair']);
		await ours.once();
		expect((await world.audit()).slice(before)).toHaveLength(1);
	});

	test('says once that most of a limit is used, where that is turned on', async () => {
		const { organization } = await tenant('near');
		await entitle(organization, 'gpu-model/*');
		await setLimit(organization, QuotaKind.NODES, 1);
		await assign(await gpuNode([]), organization);
		const warned = async () =>
			(await world.audit()).filter(({ action, target }) => action === 'quotas.warn' && target.startsWith(organization));
		await using off = reconciler(false);
		await off.once();
		expect(await warned()).toEqual([]);
		await using on = reconciler(true);
		await on.once();
		await on.once();
		expect(await warned()).toMatchObject([{ organization: 'near', detail: { used: 1, limit: 1 } }]);
	});
});
