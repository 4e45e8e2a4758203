import { create, toBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { present } from '../../kit/assert.ts';
import { AccessService } from '../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import { KeyService } from '../../proto/gen/gpuaas/iam/v1/keys_pb.ts';
import { PrincipalService } from '../../proto/gen/gpuaas/iam/v1/principals_pb.ts';
import { ScopeKind, ScopeService } from '../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { AssignmentMode, NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { EntitlementService, QuotaKind, QuotaService } from '../../proto/gen/gpuaas/quota/v1/quota_pb.ts';
import { TaskService } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { InventorySchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { FileService, PortService } from '../../proto/gen/gpuaas/terminals/v1/files_pb.ts';
import { TerminalService } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { insertProject } from '../contract/store/projects.ts';
import { scopeRow } from '../contract/store/rows.ts';
import { ApiWorld } from './api-world.ts';
import { connectedNode } from './channel-mutations.ts';
import { idOf } from './iam-world.ts';
import { refusalOf } from './refusal.ts';

/** What Explain says of entitlements and quotas is what the call itself meets, and it takes nothing. */
let world: ApiWorld;
beforeAll(async () => {
	world = await ApiWorld.start({ api: { connectionsPerAddressMax: 2000 } });
});
afterAll(() => world[Symbol.asyncDispose]());

const RUN = { kind: { case: 'run' as const, value: { argv: ['/bin/true'] } } };
const H100 = 'NVIDIA H100 80GB HBM3';

async function tenant(id: string) {
	const organization = `organizations/${id}`;
	await world.deps.store.unit(function* (tx) {
		yield* tx.scopes.insert(scopeRow(organization, `/${id}/`));
		yield* insertProject(tx, id, 'train');
	});
	return { organization, project: `${organization}/projects/train` };
}

const at = (key = world.operatorKey) => ({
	access: world.client(AccessService, key),
	nodes: world.client(NodeService, key),
	tasks: world.client(TaskService, key),
	terminals: world.client(TerminalService, key),
	files: world.client(FileService, key),
	ports: world.client(PortService, key),
	keys: world.client(KeyService, key),
	scopes: world.client(ScopeService, key),
	principals: world.client(PrincipalService, key),
	quotas: world.client(QuotaService, key),
});

async function limit(scope: string, kind: QuotaKind, max: number): Promise<void> {
	const { quotas } = await at().quotas.getQuota({ scope });
	const { etag = '' } = quotas.find((quota) => quota.kind === kind) ?? {};
	await at().quotas.setQuota({ scope, kind, limit: BigInt(max), etag });
}

async function entitle(parent: string, subject: string): Promise<void> {
	await world.client(EntitlementService, world.operatorKey).grantEntitlement({ parent, subject });
}

async function report(nodeId: string, models: readonly string[]): Promise<void> {
	const inventory = create(InventorySchema, { digest: 'd', gpus: models.map((name, index) => ({ name, index })) });
	await world.deps.store.unit((tx) =>
		tx.inventories.put({
			nodeId,
			custody: 'platform',
			digest: 'd',
			inventory: toBinary(InventorySchema, inventory),
			receivedAtMs: 1,
		}),
	);
}

async function assigned(organization: string): Promise<string> {
	const node = await connectedNode(world);
	await report(node, []);
	await assign(node, organization);
	return node;
}

function assign(node: string, organization: string) {
	return at().nodes.assignNode({
		node,
		organization: organization.split('/')[1] ?? '',
		project: 'train',
		mode: AssignmentMode.OPERATOR,
	});
}

/** The verdict, and what is judged where the call gives or takes; what it meets at its object is in explain-state. */
async function explained(asked: object, key = world.operatorKey) {
	const { allowed, reason, gates } = await at(key).access.explain(asked);
	const taken = gates.filter(({ gate }) => ['destination', 'entitlement', 'quota'].includes(gate));
	const later = taken.map(({ gate, outcome, detail }) => `${gate} ${outcome}: ${detail}`);
	return { allowed, reason, later };
}

test('a task, a terminal, a copy and a forward: with use and limit, nearest level first, as the call would be refused', async () => {
	const { organization, project } = await tenant('work');
	await entitle(organization, 'gpu-model/*');
	const node = await assigned(organization);
	const key = await world.addPrincipal('user', 'tenant.developer', project);
	const resource = `nodes/${node}`;
	expect(await explained({ method: 'CreateTask', resource }, key)).toEqual({
		allowed: true,
		reason: '',
		later: ['quota passed: no limit here or above'],
	});
	await limit(organization, QuotaKind.TASKS, 5);
	await limit(project, QuotaKind.TASKS, 1);
	await at(key).tasks.createTask({ node, spec: RUN });
	expect(await explained({ method: 'CreateTask', resource }, key)).toEqual({
		allowed: false,
		reason: 'QUOTA_EXCEEDED',
		later: [`quota failed: 1 of 1 open tasks at ${project}, and this needs 1 more`],
	});
	// Their administrator sees the same of them; the platform's own work takes nothing.
	const admin = await world.addPrincipal('operator', 'tenant.owner', organization);
	expect((await explained({ principalId: idOf(key), method: 'CreateTask', resource }, admin)).reason).toBe(
		'QUOTA_EXCEEDED',
	);
	expect((await explained({ method: 'CreateTask', resource })).later).toEqual([
		'quota passed: what the platform does on a node is nobody’s use',
	]);
	expect(await refusalOf(at(key).tasks.createTask({ node, spec: RUN }))).toMatchObject({ reason: 'QUOTA_EXCEEDED' });
	await limit(project, QuotaKind.TASKS, 3);
	// What the other projects use is shown to whoever may look at the organization's quotas, and to nobody else.
	expect((await explained({ method: 'CreateTask', resource }, key)).later).toEqual([
		`quota passed: 1 of 3 open tasks at ${project}; room above`,
	]);
	expect((await explained({ principalId: idOf(key), method: 'CreateTask', resource }, admin)).later).toEqual([
		`quota passed: 1 of 3 open tasks at ${project}; 1 of 5 open tasks at ${organization}`,
	]);

	await limit(organization, QuotaKind.TERMINALS, 0);
	const { terminals, files, ports } = at(key);
	for (const [method, call] of [
		['OpenTerminal', () => terminals.openTerminal({ node, spec: { kind: { case: 'shell', value: {} } } })],
		['ReadFiles', () => files.readFiles({ node, path: '/etc/hostname' })],
		['WriteFiles', () => files.writeFiles({ node, path: '/tmp/x' })],
		['ForwardPort', () => ports.forwardPort({ node, port: 8888 })],
	] as const) {
		const { reason } = await explained({ method, resource }, key);
		expect([reason, (await refusalOf(call())).reason], method).toEqual(['QUOTA_EXCEEDED', 'QUOTA_EXCEEDED']);
	}
});

test('asking takes nothing: the last unit is still there, and the audit log only reads', async () => {
	const { organization, project } = await tenant('asking');
	await entitle(organization, 'gpu-model/*');
	const node = await assigned(organization);
	await limit(project, QuotaKind.TASKS, 1);
	const key = await world.addPrincipal('user', 'tenant.developer', project);
	const asked = { method: 'CreateTask', resource: `nodes/${node}` };
	const rows = () => world.deps.store.read((tx) => tx.quotas.at([project, organization]));
	const before = await rows();
	for (let count = 0; count < 3; count += 1) expect((await explained(asked, key)).allowed).toBe(true);
	expect(await rows()).toEqual(before);
	await at(key).tasks.createTask({ node, spec: RUN });
});

test('an assignment: entitlement first, then nodes and GPUs of the project that it is for', async () => {
	const { organization, project } = await tenant('given');
	const node = await connectedNode(world);
	const asked = { method: 'AssignNode', resource: `nodes/${node}`, scope: project };
	const meets = async () => [(await explained(asked)).reason, (await refusalOf(assign(node, organization))).reason];
	expect((await explained({ ...asked, scope: '' })).later).toEqual([
		'destination not asked: say for which scope',
		'entitlement not asked: say for which scope',
		'quota not asked: say for which scope',
	]);
	expect(await meets()).toEqual(['ENTITLEMENT_MISSING', 'ENTITLEMENT_MISSING']);
	expect((await explained(asked)).later).toEqual([
		`destination passed: ${project} takes nodes`,
		`entitlement failed: ${project} is not entitled to gpu-model/* now`,
		'quota not reached: ',
	]);
	await entitle(organization, 'gpu-model/*');
	await limit(organization, QuotaKind.GPUS, 1);
	expect(await meets()).toEqual(['INVENTORY_MISSING', 'INVENTORY_MISSING']);
	await report(node, [H100, H100]);
	expect(await meets()).toEqual(['QUOTA_EXCEEDED', 'QUOTA_EXCEEDED']);
	expect((await explained(asked)).later.at(-1)).toBe(
		`quota failed: 0 of 1 GPUs at ${organization}, and this needs 2 more`,
	);
	await limit(organization, QuotaKind.GPUS, 2);
	expect((await explained(asked)).later.at(1)).toContain('in host mode it would not be');
	expect((await explained(asked)).allowed).toBe(true);
	const { scope } = await at().scopes.getScope({ name: project });
	await at().scopes.suspendScope({ name: project, etag: scope?.etag ?? '', reason: 'unpaid' });
	expect(await meets()).toEqual(['SCOPE_STATE_INVALID', 'SCOPE_STATE_INVALID']);
	const suspended = await at().scopes.getScope({ name: project });
	await at().scopes.resumeScope({ name: project, etag: suspended.scope?.etag ?? '' });
	await assign(node, organization);
});

test('a key, its rotation and a move', async () => {
	const { organization, project } = await tenant('keyed');
	const ownerKey = await world.addPrincipal('operator', 'tenant.owner', organization);
	const owner = at(ownerKey);
	await owner.principals.createServiceAccount({ parent: project, id: 'ci', displayName: 'ci' });
	const serviceAccount = `${project}/serviceAccounts/ci`;
	await limit(project, QuotaKind.API_KEYS, 1);
	const asked = { method: 'CreateKey', resource: serviceAccount };
	expect((await explained(asked)).later).toEqual([`quota passed: 0 of 1 API keys at ${project}`]);
	const { key } = await owner.keys.createKey({ serviceAccount, displayName: 'one' });
	expect((await explained(asked)).reason).toBe('QUOTA_EXCEEDED');
	expect(await refusalOf(owner.keys.createKey({ serviceAccount, displayName: 'two' }))).toMatchObject({
		reason: 'QUOTA_EXCEEDED',
	});
	expect((await explained({ method: 'RotateKey', resource: key?.name ?? '' })).later).toEqual([
		'quota passed: the key is counted already',
	]);
	// Another tenant's key, named as if it stood here, reads as a key that nobody has.
	const { project: other } = await tenant('keyed-elsewhere');
	const nobodys = '0192f000-0000-7000-8000-000000000000';
	await at().principals.createServiceAccount({ parent: other, id: 'ci', displayName: 'ci' });
	const theirs = await at().keys.createKey({ serviceAccount: `${other}/serviceAccounts/ci`, displayName: 'one' });
	const theirId = theirs.key?.name.split('/').at(-1) ?? '';
	const under = (id: string) => (key?.name ?? '').replace(/[^/]+$/, id);
	const ofKey = (resource: string) => explained({ method: 'RotateKey', resource }, ownerKey);
	expect(await ofKey(under(theirId))).toEqual(await ofKey(under(nobodys)));
	expect(await ofKey(`${project}/roles/${theirId}`)).toEqual(await ofKey(`${project}/roles/${nobodys}`));
	const { scope: lab } = await owner.scopes.createScope({
		parent: organization,
		kind: ScopeKind.DEPARTMENT,
		id: 'lab',
		displayName: 'lab',
	});
	const newParent = present(lab, 'a department').name;
	await limit(newParent, QuotaKind.API_KEYS, 0);
	const move = { method: 'MoveScope', resource: project, scope: newParent };
	expect(await explained(move)).toEqual({
		allowed: false,
		reason: 'QUOTA_EXCEEDED',
		later: [
			`destination passed: ${newParent} takes new scopes`,
			`quota failed: 0 of 0 API keys at ${newParent}, and this needs 1 more`,
		],
	});
	const { scope } = await owner.scopes.getScope({ name: project });
	// Who may move it and create nothing there.
	const mover = await world.addPrincipal('operator', 'tenant.viewer', organization);
	await owner.access.createRole({
		parent: organization,
		id: 'mover',
		displayName: 'mover',
		permissions: ['scopes.get', 'scopes.move', 'access.explain'],
	});
	await owner.access.createBinding({
		parent: organization,
		principalId: idOf(mover),
		role: `${organization}/roles/mover`,
	});
	expect(await explained(move, mover)).toMatchObject({
		allowed: false,
		reason: 'SCOPE_NOT_FOUND',
		later: [`destination failed: nothing may be created in ${newParent}`, 'quota not reached: '],
	});
	expect(
		await refusalOf(at(mover).scopes.moveScope({ name: project, newParent, etag: scope?.etag ?? '' })),
	).toMatchObject({ reason: 'SCOPE_NOT_FOUND' });
	expect(await refusalOf(owner.scopes.moveScope({ name: project, newParent, etag: scope?.etag ?? '' }))).toMatchObject({
		reason: 'QUOTA_EXCEEDED',
	});
});

test('a call that is refused before reaches none of them; a scope that one may not see reads as none', async () => {
	const { organization, project } = await tenant('unseen');
	const { project: foreign } = await tenant('foreign');
	const viewer = await world.addPrincipal('user', 'tenant.viewer', organization);
	expect(await explained({ method: 'MoveScope', resource: project, scope: project }, viewer)).toMatchObject({
		allowed: false,
		reason: 'PERMISSION_DENIED',
		later: ['destination not reached: ', 'quota not reached: '],
	});
	const ask = async (scope: string) => ({
		...(await refusalOf(at(viewer).access.explain({ method: 'GetScope', resource: project, scope }))),
		error: 0,
	});
	expect(await ask(foreign)).toEqual(await ask('organizations/nobody/projects/train'));
	expect((await ask(foreign)).code).toBe('NotFound');
});

test('behind an access proxy its word is a gate of each request', async () => {
	await using behind = await ApiWorld.start({ oidc: { edge: 'pomerium' } });
	const access = behind.client(AccessService, behind.operatorKey);
	const { gates } = await access.explain({ method: 'ListNodes' });
	expect(gates.slice(0, 3).map(({ gate, outcome }) => `${gate} ${outcome}`)).toEqual([
		'authn passed',
		'edge passed',
		'tenant passed',
	]);
});
