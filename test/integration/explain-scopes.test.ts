import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AssignmentMode, NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { EntitlementService, QuotaKind, QuotaService } from '../../proto/gen/gpuaas/quota/v1/quota_pb.ts';
import { IamWorld, iamClients, idOf } from './iam-world.ts';
import { refusalOf } from './refusal.ts';

/** What Explain says of a scope, and of what stands in one, is what the call meets: asked first, then tried. */
let world: IamWorld;
beforeAll(async () => {
	world = await IamWorld.start();
});
afterAll(() => world[Symbol.asyncDispose]());

interface Asked {
	readonly method: string;
	readonly resource: string;
	readonly scope?: string;
}

/** The failed gate and its reason; the call ends by the same. */
async function agreed(by: IamWorld['owner'], asked: Asked, call: () => Promise<unknown>) {
	const { allowed, reason, gates } = await by.access.explain(asked);
	const failed = gates.find(({ outcome }) => outcome === 'failed');
	expect(allowed, `${asked.method}: ${JSON.stringify(gates)}`).toBe(false);
	expect((await refusalOf(call())).reason, asked.method).toBe(reason);
	return [failed?.gate, reason];
}

const etagOf = async (name: string) => (await world.owner.scopes.getScope({ name })).scope?.etag ?? '';

test('suspending, resuming and deleting: whose matter it is, and in which state', async () => {
	const { scopes } = world.owner;
	const { name } = await world.scope(world.organization, 'project', 'states');
	const suspend = async (of: string) => scopes.suspendScope({ name: of, etag: await etagOf(of), reason: 'unpaid' });
	const resume = async (of: string) => scopes.resumeScope({ name: of, etag: await etagOf(of) });
	const ofOrganization = { method: 'SuspendScope', resource: world.organization };
	expect(await agreed(world.owner, ofOrganization, () => suspend(world.organization))).toEqual([
		'plane',
		'PERMISSION_DENIED',
	]);
	const resuming = { method: 'ResumeScope', resource: name };
	expect(await agreed(world.owner, resuming, () => resume(name))).toEqual(['state', 'SCOPE_STATE_INVALID']);
	await world.operator.scopes.suspendScope({ name, etag: await etagOf(name), reason: 'abuse' });
	expect(await agreed(world.owner, resuming, () => resume(name))).toEqual(['plane', 'PERMISSION_DENIED']);
	const asPlatform = { method: 'SuspendScope', resource: name };
	const again = async () => world.operator.scopes.suspendScope({ name, etag: await etagOf(name), reason: 'abuse' });
	expect(await agreed(world.operator, asPlatform, again)).toEqual(['state', 'SCOPE_STATE_INVALID']);
	const deleting = async (of: string) => {
		const { plan } = await world.operator.scopes.planScopeDeletion({ name: of });
		return world.operator.scopes.deleteScope({ name: of, planDigest: plan?.planDigest ?? '', reason: 'over' });
	};
	const deleted = { method: 'DeleteScope', resource: name };
	expect(await agreed(world.operator, deleted, () => deleting(name))).toEqual(['state', 'SCOPE_STATE_INVALID']);

	const { name: used } = await world.scope(world.organization, 'project', 'used');
	const { api } = world;
	const node = (await api.addNode()).id;
	await api
		.client(EntitlementService, api.operatorKey)
		.grantEntitlement({ parent: world.organization, subject: 'gpu-model/*' });
	const organization = world.organization.split('/')[1] ?? '';
	const project = used.split('/').at(-1) ?? '';
	await api
		.client(NodeService, api.operatorKey)
		.assignNode({ node, organization, project, mode: AssignmentMode.OPERATOR });
	expect(await agreed(world.operator, { method: 'DeleteScope', resource: used }, () => deleting(used))).toEqual([
		'use',
		'SCOPE_IN_USE',
	]);
});

describe('a move', () => {
	const moving = (by: IamWorld['owner'], name: string, newParent: string) => async () =>
		by.scopes.moveScope({ name, newParent, etag: await etagOf(name) });
	const asked = (resource: string, scope: string) => ({ method: 'MoveScope', resource, scope });

	test('where it would stand: of no such kind, in itself, beside one that looks the same', async () => {
		const lab = await world.scope(world.organization, 'department', 'lab');
		const inner = await world.scope(lab.name, 'department', 'inner');
		const project = await world.scope(lab.name, 'project', 'twin-of');
		const other = await world.scope(world.organization, 'project', 'other');
		for (const [of, to, gate, reason] of [
			[project.name, other.name, 'standing', 'SCOPE_KIND_INVALID'],
			[lab.name, inner.name, 'standing', 'SCOPE_CYCLE'],
		] as const)
			expect(await agreed(world.owner, asked(of, to), moving(world.owner, of, to))).toEqual([gate, reason]);
		const like = { parent: world.organization, kind: project.kind, id: 'twin', displayName: 'twin-of' };
		await world.owner.scopes.createScope(like);
		const out = asked(project.name, world.organization);
		const call = moving(world.owner, project.name, world.organization);
		expect(await agreed(world.owner, out, call)).toEqual(['place', 'NAME_CONFUSABLE']);
	});

	test('what it would leave: somebody else’s department, and a guardrail that they may not lift', async () => {
		const from = await world.scope(world.organization, 'department', 'from');
		const to = await world.scope(world.organization, 'department', 'to');
		const { name } = await world.scope(from.name, 'project', 'leaving');
		const here = await world.member('tenant.admin', name, 'operator');
		await world.owner.access.createBinding({ parent: to.name, principalId: here.id, role: 'tenant.admin' });
		const leave = asked(name, to.name);
		expect(await agreed(here, leave, moving(here, name, to.name))).toEqual(['departure', 'PERMISSION_DENIED']);

		// May move it there, and lift nothing.
		await world.owner.access.createRole({
			parent: world.organization,
			id: 'leaver',
			displayName: 'leaver',
			permissions: ['scopes.get', 'scopes.move', 'scopes.create', 'access.explain'],
		});
		const leaver = await world.member('tenant.viewer', world.organization, 'operator');
		await world.owner.access.createBinding({
			parent: world.organization,
			principalId: leaver.id,
			role: `${world.organization}/roles/leaver`,
		});
		expect((await leaver.access.explain(leave)).allowed).toBe(true);
		await world.owner.access.createGuardrail({
			parent: from.name,
			permissions: ['tasks.create'],
			reason: 'an audit is under way',
		});
		expect(await agreed(leaver, leave, moving(leaver, name, to.name))).toEqual(['departure', 'PERMISSION_DENIED']);
		const detail = async (by: IamWorld['owner'], principalId = '') =>
			(await by.access.explain({ ...leave, principalId })).gates.find(({ gate }) => gate === 'departure')?.detail;
		expect(await detail(leaver)).toContain(`it would leave a guardrail of ${from.name}`);
		// Whoever asks about them learns that, and not which.
		const admin = await world.member('tenant.admin');
		expect(await detail(admin, leaver.id)).toBe('they may not take it from where it stands, or from a guardrail there');
		const gates = (await leaver.access.explain(leave)).gates.slice(7).map(({ gate, outcome }) => `${gate} ${outcome}`);
		expect(gates).toEqual([
			'destination passed',
			'standing passed',
			'departure failed',
			'place not reached',
			'quota not reached',
		]);
	});
});

test('the last owner’s role and membership, a role that somebody has', async () => {
	const { bindings } = await world.owner.access.listBindings({ parent: world.organization, pageSize: 1000 });
	const mine = bindings.find(({ principalId, role }) => principalId === world.ownerId && role === 'tenant.owner');
	const { name = '', etag = '' } = mine ?? {};
	expect(
		await agreed(world.owner, { method: 'DeleteBinding', resource: name }, () =>
			world.owner.access.deleteBinding({ name, etag }),
		),
	).toEqual(['owner', 'LAST_OWNER']);
	const member = `${world.organization}/members/${world.ownerId}`;
	expect(
		await agreed(world.owner, { method: 'RemoveMember', resource: member }, () =>
			world.owner.principals.removeMember({ name: member }),
		),
	).toEqual(['owner', 'LAST_OWNER']);
	const { role } = await world.owner.access.createRole({
		parent: world.organization,
		id: 'held',
		displayName: 'held',
		permissions: ['tasks.get'],
	});
	const held = { name: role?.name ?? '', etag: role?.etag ?? '' };
	expect((await world.owner.access.explain({ method: 'DeleteRole', resource: held.name })).allowed).toBe(true);
	const { id } = await world.member('tenant.viewer');
	await world.owner.access.createBinding({ parent: world.organization, principalId: id, role: held.name });
	expect(
		await agreed(world.owner, { method: 'DeleteRole', resource: held.name }, () => world.owner.access.deleteRole(held)),
	).toEqual(['use', 'ROLE_IN_USE']);
});

test('a key that was revoked, and one that can do more than who would rotate it', async () => {
	const { name: parent } = await world.scope(world.organization, 'project', 'keys');
	await world.owner.principals.createServiceAccount({ parent, id: 'ci', displayName: 'ci' });
	const serviceAccount = `${parent}/serviceAccounts/ci`;
	const { principal } = await world.owner.principals.getServiceAccount({ name: serviceAccount });
	await world.owner.access.createBinding({ parent, principalId: principal?.id ?? '', role: 'tenant.admin' });
	const { key } = await world.owner.keys.createKey({ serviceAccount, displayName: 'one' });
	const name = key?.name ?? '';
	const rotating = { method: 'RotateKey', resource: name };
	const rotate = (by: IamWorld['owner']) => async () => by.keys.rotateKey({ name, etag: key?.etag ?? '' });
	await world.owner.access.createRole({
		parent: world.organization,
		id: 'rotator',
		displayName: 'rotator',
		permissions: ['keys.get', 'keys.create', 'scopes.get', 'access.explain'],
	});
	const less = await world.api.addPrincipal('operator', `${world.organization}/roles/rotator`, parent);
	const rotator = iamClients(world.api, less);
	expect((await rotator.access.explain(rotating)).gates.length).toBeGreaterThan(7);
	expect(await agreed(rotator, rotating, rotate(rotator))).toEqual(['grant', 'GRANT_EXCEEDS_OWN']);
	expect((await world.owner.access.explain({ ...rotating, principalId: idOf(less) })).reason).toBe('GRANT_EXCEEDS_OWN');
	await world.owner.keys.revokeKey({ name, reason: 'lost' });
	expect(await agreed(world.owner, rotating, rotate(world.owner))).toEqual(['key', 'KEY_REVOKED']);
});

test('whoever lengthens a binding or adds to a group holds all that it gives; what a key gives is the request’s', async () => {
	const { name: parent } = await world.scope(world.organization, 'project', 'giving');
	await world.owner.access.createRole({
		parent: world.organization,
		id: 'giver',
		displayName: 'giver',
		permissions: [
			'bindings.get',
			'bindings.create',
			'groups.get',
			'groups.manage',
			'keys.create',
			'access.explain',
			'serviceaccounts.get',
		],
	});
	const key = await world.api.addPrincipal('operator', `${world.organization}/roles/giver`, parent);
	const giver = iamClients(world.api, key);
	const { id: principalId } = await world.member('tenant.viewer');
	const { binding } = await world.owner.access.createBinding({ parent, principalId, role: 'tenant.admin' });
	const { name = '', etag = '' } = binding ?? {};
	const updating = { method: 'UpdateBinding', resource: name };
	const update = (by: IamWorld['owner']) => () => by.access.updateBinding({ name, etag, reason: 'longer' });
	expect(await agreed(giver, updating, update(giver))).toEqual(['grant', 'GRANT_EXCEEDS_OWN']);
	expect((await world.owner.access.explain(updating)).allowed).toBe(true);
	await update(world.owner)();

	const group = `${parent}/groups/admins`;
	await world.owner.principals.createGroup({ parent, id: 'admins', displayName: 'admins' });
	const { principal } = await world.owner.principals.getGroup({ name: group });
	const adding = { method: 'AddGroupMember', resource: group };
	const add = (by: IamWorld['owner']) => () => by.principals.addGroupMember({ name: group, principalId });
	expect((await giver.access.explain(adding)).allowed).toBe(true);
	await add(giver)();
	await world.owner.access.createBinding({ parent, principalId: principal?.id ?? '', role: 'tenant.admin' });
	expect(await agreed(giver, adding, add(giver))).toEqual(['grant', 'GRANT_EXCEEDS_OWN']);

	const serviceAccount = `${parent}/serviceAccounts/giving-ci`;
	const making = { method: 'CreateKey', resource: serviceAccount };
	const make = (permissions: string[]) => giver.keys.createKey({ serviceAccount, displayName: 'k', permissions });
	expect(await agreed(giver, making, () => make([]))).toEqual(['grant', 'SCOPE_NOT_FOUND']);
	await world.owner.principals.createServiceAccount({ parent, id: 'giving-ci', displayName: 'ci' });
	const { principal: account } = await world.owner.principals.getServiceAccount({ name: serviceAccount });
	await world.owner.access.createBinding({ parent, principalId: account?.id ?? '', role: 'tenant.admin' });
	const { allowed, gates } = await giver.access.explain(making);
	expect([allowed, gates.find(({ gate }) => gate === 'grant')?.outcome]).toEqual([true, 'not asked']);
	expect((await refusalOf(make([]))).reason).toBe('GRANT_EXCEEDS_OWN');
	await make(['bindings.get']);

	// Whoever asks about the giver learns the verdict, and not what they lack, which may be elsewhere.
	const admin = await world.member('tenant.admin');
	const ofGiver = await admin.access.explain({ ...adding, principalId: idOf(key) });
	const [found] = ofGiver.gates.filter(({ gate }) => gate === 'grant');
	expect([ofGiver.reason, found?.detail]).toEqual([
		'GRANT_EXCEEDS_OWN',
		'they would be refused here; they can ask why themselves',
	]);
	const asPlatform = await world.operator.access.explain({ ...adding, principalId: idOf(key) });
	expect(asPlatform.gates.find(({ gate }) => gate === 'grant')?.detail).toContain("you can't give what you don't hold");
});

test('an invitation that is over, and what can’t be made somewhere', async () => {
	const { principals, access } = world.owner;
	const { invitation } = await principals.createInvitation({
		parent: world.organization,
		email: 'ada@globex.example',
		role: 'tenant.viewer',
	});
	const name = invitation?.name ?? '';
	const revoking = { method: 'RevokeInvitation', resource: name };
	expect((await access.explain(revoking)).allowed).toBe(true);
	await principals.revokeInvitation({ name });
	expect(await agreed(world.owner, revoking, () => principals.revokeInvitation({ name }))).toEqual([
		'state',
		'INVITATION_CLOSED',
	]);
	const { name: project } = await world.scope(world.organization, 'project', 'leaf-of-all');
	const role = { parent: project, id: 'here', displayName: 'here', permissions: ['tasks.get'] };
	expect(await agreed(world.owner, { method: 'CreateRole', resource: project }, () => access.createRole(role))).toEqual(
		['kind', 'SCOPE_KIND_INVALID'],
	);
	expect(
		await agreed(world.owner, { method: 'CreateScope', resource: project }, () =>
			world.scope(project, 'project', 'in-a-project'),
		),
	).toEqual(['room', 'SCOPE_KIND_INVALID']);
	// Nobody raises the limits of what they rule themselves.
	const ruler = await world.api.addPrincipal('operator', 'tenant.owner', project);
	expect(
		await agreed(iamClients(world.api, ruler), { method: 'SetQuota', resource: project }, () =>
			world.api.client(QuotaService, ruler).setQuota({ scope: project, kind: QuotaKind.TASKS, limit: 5n, etag: 'v1' }),
		),
	).toEqual(['above', 'PERMISSION_DENIED']);
	const inviting = { parent: 'platform', email: 'ada@globex.example', role: 'platform.viewer' };
	expect(
		await agreed(world.operator, { method: 'CreateInvitation', resource: 'platform' }, () =>
			world.operator.principals.createInvitation(inviting),
		),
	).toEqual(['kind', 'SCOPE_KIND_INVALID']);
});
