import type { DescMethod } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { API_SERVICES } from '../../control-plane/api/methods.ts';
import { type CheckedPolicy, checkedPolicy } from '../../control-plane/app/iam/method-policy.ts';
import { ROLES } from '../../control-plane/app/iam/roles.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { AuditClass, Caller } from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import { AssignmentMode, NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { TaskService } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { TokenService } from '../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { NEEDS_MORE_THAN_A_KEY, type SampleIds, sampleRequest } from './api-samples.ts';
import { ApiWorld } from './api-world.ts';
import { collectionOf } from './iam-requests.ts';
import { insertIamSample } from './iam-sample.ts';
import { comparable, enveloped, type RawAnswer, rawCall } from './raw-api.ts';
import { addRecording } from './recordings-world.ts';
import { addTerminal, attach } from './terminal-samples.ts';

/** Every method of the contract against every kind of caller: nothing is listed by hand that could be forgotten. */
const METHODS: readonly { readonly name: string; readonly method: DescMethod; readonly policy: CheckedPolicy }[] =
	API_SERVICES.flatMap((service) => service.methods).map((method) => {
		const policy = checkedPolicy(method);
		return { name: policy.name, method, policy };
	});
const OBJECTS = METHODS.filter(({ policy }) =>
	['node', 'task', 'operation', 'recording', 'scope'].includes(policy.target),
);

let world: ApiWorld;
let ids: SampleIds;
const keys: Record<string, string> = {};

beforeAll(async () => {
	// Each client has a connection of its own.
	world = await ApiWorld.start({ api: { connectionsPerAddressMax: 2000 } });
	keys.operator = world.operatorKey;
	keys['platform viewer'] = await world.addPrincipal('user', 'platform.viewer', 'platform');
	keys.auditor = await world.addPrincipal('user', 'platform.auditor', 'platform');
	keys['service account'] = await world.addPrincipal('service_account', 'platform.operator', 'platform');
	keys.tenant = await world.addPrincipal('user', 'tenant.developer', 'organizations/acme/projects/train');
	keys['tenant viewer'] = await world.addPrincipal('user', 'tenant.viewer', 'organizations/acme/projects/train');
	keys['foreign tenant'] = await world.addPrincipal('user', 'tenant.developer', 'organizations/rival/projects/train');
	keys.nobody = await world.addPrincipal('user', 'tenant.developer', 'nowhere');
	keys['wrong plane'] = await world.addPrincipal('user', 'tenant.developer', 'platform');
	ids = await makeObjects();
});
afterAll(() => world[Symbol.asyncDispose]());

/** A node that is assigned to acme/train, with a task of that assignment and a drain that ran. */
async function makeObjects(organization = 'acme'): Promise<SampleIds> {
	const row = await world.addNode();
	const nodes = world.client(NodeService, world.operatorKey);
	const tasks = world.client(TaskService, world.operatorKey);
	await nodes.assignNode({ node: row.id, organization: 'acme', project: 'train', mode: AssignmentMode.OPERATOR });
	const created = await tasks.createTask({
		node: row.id,
		spec: { kind: { case: 'run', value: { argv: ['/bin/true'] } } },
	});
	const { operationId } = await nodes.drainNode({ node: row.id });
	await nodes.uncordonNode({ node: row.id });
	const token = await world.client(TokenService, world.operatorKey).createToken({});
	const etag = (await nodes.getNode({ node: row.id })).node?.etag ?? '';
	return {
		node: row.id,
		taskId: created.task?.id ?? '',
		operationId,
		recordingId: await addRecording(world, row.id),
		terminalId: await addTerminal(world, row.id),
		tokenId: token.token?.id ?? '',
		serial: 'ab'.repeat(16),
		etag,
		iam: await world.deps.store.unit((tx) => insertIamSample(tx, organization, 'train', row.id.slice(-12))),
	};
}

function call(method: DescMethod, key: string | undefined, named: SampleIds): Promise<RawAnswer> {
	if (method.methodKind === 'bidi_streaming') return attach(world, key, named.terminalId);
	const json = JSON.stringify(sampleRequest(method, named));
	const isStream = method.methodKind === 'server_streaming';
	return rawCall(world, {
		path: `/${method.parent.typeName}/${method.name}`,
		body: isStream ? enveloped(json) : json,
		key,
		// A stream's error repeats its correlation id in the body.
		headers: { 'x-correlation-id': 'matrix', ...(isStream ? { 'content-type': 'application/connect+json' } : {}) },
	});
}

/** The reason of an answer, `OK` for none; of a stream, that of its end. */
function reasonOf(answer: RawAnswer): string {
	const text = answer.body.toString('latin1');
	const debug = /"reason":"([A-Z_]+)"/.exec(text)?.[1];
	return debug ?? (answer.status === 200 && !text.includes('"error"') ? 'OK' : `HTTP ${answer.status} ${text}`);
}

function holds(role: string, permission: string): boolean {
	return ROLES[role]?.permissions.has(permission) === true;
}

const AUTHORIZATION = new Set([
	'UNAUTHENTICATED',
	'PERMISSION_DENIED',
	'STEP_UP_REQUIRED',
	'NODE_NOT_FOUND',
	'TASK_NOT_FOUND',
	'OPERATION_NOT_FOUND',
	'RECORDING_NOT_FOUND',
	'TERMINAL_NOT_FOUND',
	'SCOPE_NOT_FOUND',
]);

/** As of app/iam/target: who may not get it is told that it isn't there. */
function getPermission(method: DescMethod): string {
	const collection = method.input.fields.some(({ name }) => name === 'name' || name === 'service_account')
		? method.name.endsWith('Key') || method.name.endsWith('Keys')
			? 'keys'
			: collectionOf(method.name)
		: '';
	return collection === '' ? 'scopes.get' : `${collection.toLowerCase()}.get`;
}

/** Roles and members stand at the organization, above the project that these callers have. */
function isOfOrganization(method: DescMethod): boolean {
	return ['GetRole', 'UpdateRole', 'DeleteRole', 'RemoveMember'].includes(method.name);
}

describe('anonymous', () => {
	test.each(METHODS)('$name', async ({ method, policy }) => {
		const reason = reasonOf(await call(method, undefined, ids));
		const more = NEEDS_MORE_THAN_A_KEY[method.name];
		if (more !== undefined) return expect(more).toContain(reason);
		expect(reason).toBe(policy.caller === Caller.ANYONE ? 'OK' : 'UNAUTHENTICATED');
	});
});

describe('a tenant of another organization', () => {
	test.each(OBJECTS)(
		'$name: another tenant’s object reads exactly as one that does not exist',
		async ({ method, policy }) => {
			const unknown = uuidv7(world.deps.clock.now(), world.deps.rng);
			const missing = await call(method, keys['foreign tenant'], {
				...ids,
				node: unknown,
				taskId: unknown,
				operationId: unknown,
				recordingId: unknown,
				terminalId: unknown,
				iam: { ...ids.iam, scope: 'organizations/nothing/projects/nowhere' },
			});
			const foreign = await call(method, keys['foreign tenant'], ids);
			expect(comparable(foreign)).toBe(comparable(missing));
			expect(reasonOf(foreign)).toBe(`${policy.target.toUpperCase()}_NOT_FOUND`);
			for (const caller of ['nobody', 'wrong plane']) {
				expect(comparable(await call(method, keys[caller], ids))).toBe(comparable(missing));
			}
		},
	);

	test.each(METHODS.filter(({ policy }) => policy.target === 'any'))(
		'$name: a list has nothing of it',
		async ({ method }) => {
			const answer = await call(method, keys['foreign tenant'], ids);
			expect(answer.body.toString()).not.toContain(ids.node);
			expect(answer.body.toString()).not.toContain(ids.taskId);
			expect(answer.body.toString()).not.toContain(ids.recordingId);
			expect(['OK', 'PERMISSION_DENIED', 'NOT_FOUND']).toContain(reasonOf(answer));
		},
	);

	test.each(METHODS.filter(({ policy }) => policy.target === 'platform' && policy.caller === Caller.PRINCIPAL))(
		'$name: the platform is not theirs',
		async ({ method }) => {
			expect(reasonOf(await call(method, keys['foreign tenant'], ids))).toBe('PERMISSION_DENIED');
		},
	);
});

describe.each([
	['tenant', 'tenant.developer'],
	['tenant viewer', 'tenant.viewer'],
] as const)('a %s of the assigned project', (caller, role) => {
	test.each(METHODS)('$name', async ({ method, policy }) => {
		const reason = reasonOf(await call(method, keys[caller], ids));
		const more = NEEDS_MORE_THAN_A_KEY[method.name];
		if (more !== undefined) return expect(more).toContain(reason);
		if (policy.caller === Caller.ANYONE) return expect(reason).toBe('OK');
		if (policy.target === 'self') return expect(AUTHORIZATION.has(reason) && reason !== 'STEP_UP_REQUIRED').toBe(false);
		if (policy.target === 'operation') return expect(reason).toBe('OPERATION_NOT_FOUND');
		if (policy.target === 'scope' && (isOfOrganization(method) || !holds(role, getPermission(method))))
			return expect(reason).toBe('SCOPE_NOT_FOUND');
		const allowed = policy.target !== 'platform' && holds(role, policy.permission);
		if (allowed) expect(AUTHORIZATION.has(reason), reason).toBe(false);
		else expect(reason).toBe('PERMISSION_DENIED');
	});
});

describe.each([
	['platform viewer', 'platform.viewer'],
	['auditor', 'platform.auditor'],
	['service account', 'platform.operator'],
] as const)('a %s', (caller, role) => {
	// A service account may do all but what needs step-up; the rest of it would change the samples.
	const tried = METHODS.filter(({ policy }) => caller !== 'service account' || policy.stepUp);
	test.each(tried)('$name', async ({ method, policy }) => {
		const reason = reasonOf(await call(method, keys[caller], ids));
		const isOpen = policy.caller === Caller.ANYONE || policy.target === 'self';
		if (policy.target === 'scope' && !holds(role, getPermission(method))) return expect(reason).toBe('SCOPE_NOT_FOUND');
		if (!isOpen && !holds(role, policy.permission)) return expect(reason).toBe('PERMISSION_DENIED');
		if (policy.stepUp) return expect(reason).toBe('STEP_UP_REQUIRED');
		const more = NEEDS_MORE_THAN_A_KEY[method.name];
		if (more !== undefined) return expect(more).toContain(reason);
		expect(AUTHORIZATION.has(reason), reason).toBe(false);
	});
});

describe('the operator', () => {
	test.each(METHODS)('$name', async ({ method, policy }) => {
		// On objects of its own: some of these calls change or end what they name.
		const mine = await makeObjects(`o${method.name.toLowerCase()}`);
		// A stream of an open task has no end.
		if (method.methodKind === 'server_streaming')
			await world.client(TaskService, world.operatorKey).cancelTask({ taskId: mine.taskId });
		const reason = reasonOf(await call(method, keys.operator, mine));
		const more = NEEDS_MORE_THAN_A_KEY[method.name];
		if (more !== undefined) return expect(more).toContain(reason);
		// Custom roles are the tenants' own.
		const isTheirs = policy.permission !== '' && !holds('platform.operator', policy.permission);
		if (isTheirs) return expect(reason).toBe('PERMISSION_DENIED');
		expect(AUTHORIZATION.has(reason), reason).toBe(false);
	});
});

describe('tenants and nodes', () => {
	test('a list is exactly what may be got', async () => {
		await world.addNode();
		const client = world.client(NodeService, keys.tenant);
		const listed = (await client.listNodes({ pageSize: 1000 })).nodes.map(({ id }) => id);
		const all = (await world.client(NodeService, world.operatorKey).listNodes({ pageSize: 1000 })).nodes;
		const got: string[] = [];
		for (const { id } of all)
			await client.getNode({ node: id }).then(
				() => got.push(id),
				() => {},
			);
		expect(listed.toSorted()).toEqual(got.toSorted());
		expect(listed).toContain(ids.node);
		expect(listed.length).toBeLessThan(all.length);
	});

	test('the end of the assignment hides the node and keeps its tasks with their project', async () => {
		const mine = await makeObjects();
		const tenantNodes = world.client(NodeService, keys.tenant);
		const tenantTasks = world.client(TaskService, keys.tenant);
		await tenantNodes.getNode({ node: mine.node });
		await world.client(NodeService, world.operatorKey).unassignNode({ node: mine.node });
		await expect(tenantNodes.getNode({ node: mine.node })).rejects.toThrow('no such node');
		const { task } = await tenantTasks.getTask({ taskId: mine.taskId });
		expect(task).toMatchObject({ reason: 'ASSIGNMENT_ENDED', assignment: { organization: 'acme', project: 'train' } });
		const listed = await tenantTasks.listTasks({ pageSize: 1000 });
		expect(listed.tasks.map(({ id }) => id)).toContain(mine.taskId);
	});

	test('a node in a tenant’s hands gets no task of the platform, and its tenant’s own', async () => {
		const row = await world.addNode();
		const nodes = world.client(NodeService, world.operatorKey);
		await nodes.assignNode({ node: row.id, organization: 'acme', project: 'train', mode: AssignmentMode.HOST });
		const spec = { kind: { case: 'run' as const, value: { argv: ['/bin/true'] } } };
		await expect(world.client(TaskService, world.operatorKey).createTask({ node: row.id, spec })).rejects.toThrow(
			'in the hands of a tenant',
		);
		const mine = await world.client(TaskService, keys.tenant).createTask({ node: row.id, spec });
		expect(mine.task?.assignment?.project).toBe('train');
		const ended = await nodes.unassignNode({ node: row.id });
		expect(ended.assignment?.until).toBeDefined();
		await expect(
			nodes.assignNode({ node: row.id, organization: 'acme', project: 'train', mode: AssignmentMode.SLICE }),
		).rejects.toThrow('not known to be clean');
	});

	test('a binding that is taken away counts from the next look', async () => {
		const key = await world.addPrincipal('user', 'platform.viewer', 'platform');
		const client = world.client(NodeService, key);
		await client.listNodes({});
		const id = key.split('_')[3] ?? '';
		await world.deps.store.unit((tx) => tx.apiKeys.revokeCredential(id, world.deps.clock.now()));
		await expect(client.listNodes({})).rejects.toThrow('revoked');
	});
});

test('every mutation in the contract is held by a role, and no role holds what is not in the contract', () => {
	const named = new Set(METHODS.map(({ policy }) => policy.permission).filter((permission) => permission !== ''));
	const held = new Set(Object.values(ROLES).flatMap(({ permissions }) => [...permissions]));
	expect([...held].filter((permission) => !named.has(permission))).toEqual([]);
	expect([...named].filter((permission) => !held.has(permission))).toEqual([]);
	const mutations = METHODS.filter(
		({ policy, method }) =>
			(policy.audit === AuditClass.MUTATION || policy.audit === AuditClass.PRIVILEGED) &&
			!(method.name in NEEDS_MORE_THAN_A_KEY),
	);
	expect(mutations.every(({ policy }) => policy.permission !== '' || policy.target === 'self')).toBe(true);
});
