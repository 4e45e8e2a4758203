import { timestampMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { purgeScope } from '../../control-plane/app/scopes/purge.ts';
import { systemContext } from '../../control-plane/context.ts';
import { IamUpkeepReconciler } from '../../control-plane/reconcilers/iam-upkeep.ts';
import type { Store } from '../../control-plane/store/port/store.ts';
import { present } from '../../kit/assert.ts';
import { ScopeKind, ScopeState } from '../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { AssignmentMode, NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { bindingRow } from '../contract/store/rows.ts';
import { type IamClients, IamWorld } from './iam-world.ts';
import { refusalOf } from './refusal.ts';

let world: IamWorld;
beforeAll(async () => {
	world = await IamWorld.start();
});
afterAll(() => world[Symbol.asyncDispose]());

const etagOf = async (name: string) => (await world.owner.scopes.getScope({ name })).scope?.etag ?? '';

describe('organizations, departments, projects', () => {
	test('the platform makes an organization with its first owner; a tenant makes what is below', async () => {
		const ownerId = await world.stranger('founder');
		const asked = { parent: 'platform', kind: ScopeKind.ORGANIZATION, id: 'initech', displayName: 'Initech' };
		expect(await refusalOf(world.owner.scopes.createScope(asked))).toMatchObject({ reason: 'SCOPE_NOT_FOUND' });
		const { scope } = await world.operator.scopes.createScope({ ...asked, ownerId });
		expect(scope).toMatchObject({ name: 'organizations/initech', parent: 'platform', state: ScopeState.ACTIVE });
		const { bindings } = await world.operator.access.listBindings({ parent: 'organizations/initech' });
		expect(bindings).toMatchObject([{ principalId: ownerId, role: 'tenant.owner' }]);
		const department = await world.scope(world.organization, 'department', 'research');
		const project = await world.scope(department.name, 'project', 'vision');
		expect(project).toMatchObject({ name: `${world.organization}/projects/vision`, parent: department.name });
		const misplaced = { parent: project.name, kind: ScopeKind.PROJECT, id: 'x', displayName: 'X' };
		expect(await refusalOf(world.owner.scopes.createScope(misplaced))).toMatchObject({ reason: 'SCOPE_KIND_INVALID' });
		const inAnother = { ...asked, parent: world.organization, id: 'inner' };
		expect(await refusalOf(world.owner.scopes.createScope(inAnother))).toMatchObject({ reason: 'SCOPE_KIND_INVALID' });
		const loose = { ...asked, kind: ScopeKind.PROJECT, id: 'loose' };
		expect(await refusalOf(world.operator.scopes.createScope(loose))).toMatchObject({ reason: 'SCOPE_KIND_INVALID' });
	});

	test('an id is never used again, and no two siblings look alike', async () => {
		await world.scope(world.organization, 'project', 'alpha');
		const again = { parent: world.organization, kind: ScopeKind.PROJECT, id: 'alpha', displayName: 'other' };
		expect(await refusalOf(world.owner.scopes.createScope(again))).toMatchObject({ reason: 'SCOPE_ID_TAKEN' });
		for (const displayName of ['ALPHA', 'a\u200Blpha', 'аlpha', 'αlphα']) {
			const like = { parent: world.organization, kind: ScopeKind.PROJECT, id: 'beta', displayName };
			expect(await refusalOf(world.owner.scopes.createScope(like)), displayName).toMatchObject({
				reason: 'NAME_CONFUSABLE',
			});
		}
	});

	test('a repeated request makes one', async () => {
		const asked = {
			parent: world.organization,
			kind: ScopeKind.PROJECT,
			id: 'once',
			displayName: 'once',
			requestId: 'r1',
		};
		const first = await world.owner.scopes.createScope(asked);
		expect(await world.owner.scopes.createScope(asked)).toEqual(first);
		const other = { ...asked, displayName: 'twice' };
		expect(await refusalOf(world.owner.scopes.createScope(other))).toMatchObject({ reason: 'REQUEST_ID_REUSED' });
	});

	test('a new display name leaves the name; a stale etag changes nothing', async () => {
		const { name, etag } = await world.scope(world.organization, 'project', 'old');
		const { scope } = await world.owner.scopes.renameScope({ name, displayName: 'New', etag });
		expect(scope).toMatchObject({ name, displayName: 'New' });
		const stale = world.owner.scopes.renameScope({ name, displayName: 'Newer', etag });
		expect(await refusalOf(stale)).toMatchObject({ code: 'Aborted', reason: 'ETAG_MISMATCH' });
	});

	test('a department moves with what is below it, never into itself, never to another organization', async () => {
		const from = await world.scope(world.organization, 'department', 'from');
		const inner = await world.scope(from.name, 'department', 'inner');
		const leaf = await world.scope(inner.name, 'project', 'leaf');
		const to = await world.scope(world.organization, 'department', 'to');
		const reader = await world.member('tenant.viewer', to.name);
		await expect(reader.scopes.getScope({ name: leaf.name })).rejects.toThrow('no such scope');
		for (const newParent of [from.name, inner.name]) {
			const cycle = world.owner.scopes.moveScope({ name: from.name, newParent, etag: from.etag });
			expect(await refusalOf(cycle)).toMatchObject({ reason: 'SCOPE_CYCLE' });
		}
		const abroad = { name: from.name, newParent: 'organizations/acme', etag: from.etag };
		expect(await refusalOf(world.owner.scopes.moveScope(abroad))).toMatchObject({ reason: 'SCOPE_NOT_FOUND' });
		// Nor by who owns both.
		const both = await world.member('tenant.owner', world.organization, 'operator');
		const there = bindingRow('of-both', both.id, { role: 'tenant.owner', scope: 'organizations/acme' });
		await world.api.deps.store.unit((tx) => tx.access.insertBinding(there));
		expect(await refusalOf(both.scopes.moveScope(abroad))).toMatchObject({ reason: 'SCOPE_KIND_INVALID' });
		const { scope } = await world.owner.scopes.moveScope({ name: from.name, newParent: to.name, etag: from.etag });
		expect(scope?.parent).toBe(to.name);
		expect((await reader.scopes.getScope({ name: leaf.name })).scope?.parent).toBe(inner.name);
		const seen = (await reader.scopes.listScopes({})).scopes.map(({ name }) => name);
		expect(seen).toEqual([to.name, from.name, inner.name, leaf.name].toSorted());
	});

	test('moving takes whoever may move it where it stood, stepped up, and lifts no guardrail of somebody else', async () => {
		const guarded = await world.scope(world.organization, 'department', 'guarded');
		const lab = await world.scope(guarded.name, 'department', 'lab');
		const to = await world.scope(world.organization, 'department', 'elsewhere');
		const scope = await world.scope(lab.name, 'project', 'held');
		const move = (by: IamClients) => by.scopes.moveScope({ name: scope.name, newParent: to.name, etag: scope.etag });
		const at = async (...places: readonly string[]) => {
			const one = await world.member('tenant.admin', places[0], 'operator');
			for (const parent of places.slice(1))
				await world.owner.access.createBinding({ parent, principalId: one.id, role: 'tenant.admin' });
			return one;
		};
		const itself = await at(scope.name, to.name);
		expect(await refusalOf(move(itself))).toMatchObject({ reason: 'PERMISSION_DENIED' });
		const guardrail = await world.owner.access.createGuardrail({
			parent: guarded.name,
			permissions: ['tasks.create'],
			reason: 'audit',
		});
		const below = await at(lab.name, to.name);
		const lifted = await refusalOf(move(below));
		expect(lifted).toMatchObject({ reason: 'PERMISSION_DENIED', message: expect.stringContaining('guardrail') });
		// Whoever may take it away and not bring it there is told of no such parent.
		const leaver = await at(guarded.name);
		expect(await refusalOf(move(leaver))).toMatchObject({ reason: 'SCOPE_NOT_FOUND' });
		const user = await world.member('tenant.owner');
		expect(await refusalOf(move(user))).toMatchObject({ reason: 'STEP_UP_REQUIRED' });
		const { name, etag } = guardrail.guardrail ?? { name: '', etag: '' };
		await world.owner.access.deleteGuardrail({ name, etag });
		expect((await move(below)).scope?.parent).toBe(to.name);
	});

	test('departments nest so deep and no deeper', async () => {
		let parent = world.organization;
		for (let depth = 1; depth <= 6; depth += 1) parent = (await world.scope(parent, 'department', `deep${depth}`)).name;
		const deeper = { parent, kind: ScopeKind.DEPARTMENT, id: 'deep7', displayName: 'deep7' };
		expect(await refusalOf(world.owner.scopes.createScope(deeper))).toMatchObject({ reason: 'SCOPE_TOO_DEEP' });
	});
});

describe('suspension and deletion', () => {
	test('a suspended project can be looked at, its service accounts stop, and resuming brings all back', async () => {
		const { name, etag } = await world.scope(world.organization, 'project', 'paused');
		const account = { parent: name, id: 'ci', displayName: 'CI' };
		await world.owner.principals.createServiceAccount(account);
		const { secret } = await world.owner.keys.createKey({
			serviceAccount: `${name}/serviceAccounts/ci`,
			displayName: 'k',
		});
		const asAccount = () => world.api.client(NodeService, secret).listNodes({});
		expect(await refusalOf(asAccount())).toMatchObject({ reason: 'PERMISSION_DENIED' });
		await world.owner.scopes.suspendScope({ name, reason: 'unpaid', etag });
		expect(await refusalOf(asAccount())).toMatchObject({ code: 'Unauthenticated' });
		expect((await world.owner.scopes.getScope({ name })).scope?.stateReason).toBe('unpaid');
		const change = () => world.owner.principals.createGroup({ parent: name, id: 'g', displayName: 'g' });
		expect(await refusalOf(change())).toMatchObject({ reason: 'SCOPE_SUSPENDED' });
		await world.owner.scopes.resumeScope({ name, etag: await etagOf(name) });
		expect(await refusalOf(asAccount())).toMatchObject({ reason: 'PERMISSION_DENIED' });
		// What the platform suspends, only the platform resumes.
		const own = world.owner.scopes.suspendScope({
			name: world.organization,
			reason: 'x',
			etag: await etagOf(world.organization),
		});
		expect(await refusalOf(own)).toMatchObject({ reason: 'PERMISSION_DENIED' });
		await world.operator.scopes.suspendScope({ name, reason: 'abuse', etag: await etagOf(name) });
		const back = async () => ({ name, etag: await etagOf(name) });
		expect(await refusalOf(world.owner.scopes.resumeScope(await back()))).toMatchObject({
			reason: 'PERMISSION_DENIED',
		});
		expect(await refusalOf(change())).toMatchObject({ reason: 'SCOPE_SUSPENDED' });
		await world.operator.scopes.resumeScope(await back());
		await change();
	});

	test('a deletion shows its plan, waits out its grace, and can be taken back until then', async () => {
		const { name } = await world.scope(world.organization, 'department', 'doomed');
		const project = await world.scope(name, 'project', 'doomed-too');
		await world.owner.principals.createServiceAccount({ parent: project.name, id: 'last', displayName: 'last' });
		const { plan } = await world.owner.scopes.planScopeDeletion({ name });
		expect(plan).toMatchObject({ scopes: 2n, principals: 1n, openAssignments: 0n, firstScopes: [name, project.name] });
		const planDigest = plan?.planDigest ?? '';
		const unseen = world.owner.scopes.deleteScope({ name, planDigest: 'ab', reason: 'x' });
		expect(await refusalOf(unseen)).toMatchObject({ reason: 'DELETION_PLAN_CHANGED' });
		const { scope } = await world.owner.scopes.deleteScope({ name, planDigest, reason: 'over' });
		expect(scope?.state).toBe(ScopeState.DELETING);
		const graceMs = timestampMs(present(scope?.deleteAt, 'an end')) - world.api.deps.clock.now();
		expect(Math.round(graceMs / 3_600_000)).toBe(7 * 24);
		await using upkeep = new IamUpkeepReconciler(world.api.deps);
		await upkeep.once();
		expect((await world.owner.scopes.getScope({ name })).scope?.state).toBe(ScopeState.DELETING);
		// Whoever looks, and whatever it was told.
		const { deps } = world.api;
		const row = present(await deps.store.read((tx) => tx.scopes.get(name)), 'a row');
		const by = { ctx: systemContext('test', deps.clock, deps.log, 'c'), appendAudit: deps.appendAudit };
		const purge = () => deps.store.unit((tx) => purgeScope(tx, row, { ...by, nowMs: deps.clock.now() }));
		expect(await purge()).toBe(false);
		await world.owner.scopes.resumeScope({ name, etag: scope?.etag ?? '' });
		const { id: viewer } = await world.member('tenant.viewer');
		await world.owner.access.createBinding({ parent: project.name, principalId: viewer, role: 'tenant.developer' });
		const grace = { seconds: 0n, nanos: 0 };
		const seen = (await world.owner.scopes.planScopeDeletion({ name })).plan?.planDigest ?? '';
		await world.owner.access.createBinding({ parent: project.name, principalId: viewer, role: 'tenant.billing' });
		const stale = world.owner.scopes.deleteScope({ name, planDigest: seen, grace, reason: 'over' });
		expect(await refusalOf(stale)).toMatchObject({ reason: 'DELETION_PLAN_CHANGED' });
		const again = (await world.owner.scopes.planScopeDeletion({ name })).plan?.planDigest ?? '';
		await world.owner.scopes.deleteScope({ name, planDigest: again, grace, reason: 'over' });
		const before = (await world.api.audit()).length;
		await upkeep.once();
		expect((await world.api.audit()).slice(before)).toMatchObject([
			{ action: 'scopes.purge', target: name, organization: 'globex', detail: { scopes: 2, principals: 1 } },
		]);
		expect(await refusalOf(world.owner.scopes.getScope({ name }))).toMatchObject({ reason: 'SCOPE_NOT_FOUND' });
		const left = await deps.store.read((tx) => tx.access.listBindings([viewer]));
		expect(left.map(({ role }) => role)).toEqual(['tenant.viewer']);
		// Records carry its name, so nothing else is ever called so.
		const reborn = { parent: world.organization, kind: ScopeKind.DEPARTMENT, id: 'doomed', displayName: 'Phoenix' };
		expect(await refusalOf(world.owner.scopes.createScope(reborn))).toMatchObject({ reason: 'SCOPE_ID_TAKEN' });
		expect(await refusalOf(world.owner.scopes.getScope({ name: project.name }))).toMatchObject({
			reason: 'SCOPE_NOT_FOUND',
		});
		const rows = await world.api.deps.store.read((tx) => tx.identities.listHomed([project.name], 10));
		expect(rows).toEqual([]);
	});

	test('whoever belonged to an organization belongs there no more once it is deleted', async () => {
		const { deps } = world.api;
		const ownerId = await world.stranger('last-of-umbrella');
		const made = { parent: 'platform', kind: ScopeKind.ORGANIZATION, id: 'umbrella', displayName: 'Umbrella', ownerId };
		const name = (await world.operator.scopes.createScope(made)).scope?.name ?? '';
		const member = () => deps.store.read((tx) => tx.identities.getMember('umbrella', ownerId));
		const planDigest = (await world.operator.scopes.planScopeDeletion({ name })).plan?.planDigest ?? '';
		await world.operator.scopes.deleteScope({ name, planDigest, grace: { seconds: 0n, nanos: 0 }, reason: 'over' });
		expect(await member()).toBeDefined();
		await using upkeep = new IamUpkeepReconciler(deps);
		await upkeep.once();
		expect(await member()).toBeUndefined();
	});

	test('a binding that ended is shown for a month', async () => {
		const { deps } = world.api;
		const { id } = await world.member('tenant.viewer');
		const day = 24 * 3_600_000;
		await deps.store.unit(function* (tx) {
			for (const days of [29, 31]) {
				const ended = { scope: world.organization, role: `x${days}`, expiresAtMs: deps.clock.now() - days * day };
				yield* tx.access.insertBinding(bindingRow(`ended-${days}`, id, ended));
			}
		});
		await using upkeep = new IamUpkeepReconciler(deps);
		await upkeep.once();
		const left = await deps.store.read((tx) => tx.access.listBindings([id]));
		expect(left.map(({ role }) => role).toSorted()).toEqual(['tenant.viewer', 'x29']);
	});

	test('a scope that can’t be deleted when its grace is over keeps no other from it', async () => {
		const { deps } = world.api;
		const names: string[] = [];
		for (const id of ['stuck', 'ready']) {
			const { name } = await world.scope(world.organization, 'department', id);
			names.push(name);
			const planDigest = (await world.owner.scopes.planScopeDeletion({ name })).plan?.planDigest ?? '';
			await world.owner.scopes.deleteScope({ name, planDigest, grace: { seconds: 0n, nanos: 0 }, reason: 'over' });
		}
		let units = 0;
		const unit: Store['unit'] = (plan, options) => {
			units += 1;
			return units === 1 ? Promise.reject(new Error('a row that can’t be changed')) : deps.store.unit(plan, options);
		};
		const store = Object.create(deps.store, {
			unit: { value: unit },
			read: { value: deps.store.read.bind(deps.store) },
		});
		await using upkeep = new IamUpkeepReconciler({ ...deps, store });
		await upkeep.once();
		const states = async () =>
			(await deps.store.read((tx) => tx.scopes.getMany(names))).map(({ id, state }) => `${id} ${state}`).toSorted();
		expect(await states()).toEqual(['ready deleted', 'stuck deleting']);
		await upkeep.once();
		expect(await states()).toEqual(['ready deleted', 'stuck deleted']);
	});

	test('what has nodes can’t be deleted, and only what is there takes nodes', async () => {
		const { name } = await world.scope(world.organization, 'project', 'busy');
		const node = await world.api.addNode();
		const nodes = world.api.client(NodeService, world.api.operatorKey);
		const at = { node: node.id, organization: 'globex', mode: AssignmentMode.OPERATOR };
		expect(await refusalOf(nodes.assignNode({ ...at, project: 'nowhere' }))).toMatchObject({
			reason: 'SCOPE_STATE_INVALID',
		});
		await nodes.assignNode({ ...at, project: 'busy' });
		const { plan } = await world.owner.scopes.planScopeDeletion({ name });
		expect(plan?.openAssignments).toBe(1n);
		const deletion = world.owner.scopes.deleteScope({ name, planDigest: plan?.planDigest ?? '', reason: 'x' });
		expect(await refusalOf(deletion)).toMatchObject({ reason: 'SCOPE_IN_USE' });
		await nodes.unassignNode({ node: node.id });
	});
});
