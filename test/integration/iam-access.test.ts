import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BINDINGS_PER_PRINCIPAL_MAX } from '../../control-plane/app/access/create-binding.ts';
import { GUARDRAILS_PER_ORGANIZATION_MAX } from '../../control-plane/app/access/guardrails.ts';
import { ScopeKind } from '../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { bindingRow } from '../contract/store/rows.ts';
import { type IamClients, IamWorld, idOf } from './iam-world.ts';
import { underPolicy } from './lock-order.ts';
import { refusalOf } from './refusal.ts';

let world: IamWorld;
beforeAll(async () => {
	world = await IamWorld.start();
});
afterAll(() => world[Symbol.asyncDispose]());

const parentOf = () => world.organization;

describe('bindings', () => {
	test('a role counts from the next request, until it ends or is taken away', async () => {
		const { id, ...reader } = await world.member('tenant.billing');
		const deny = await refusalOf(reader.access.listBindings({ parent: parentOf() }));
		expect(deny).toMatchObject({ reason: 'PERMISSION_DENIED' });
		const expiresAt = timestampFromMs(Date.parse('2100-01-01'));
		const { binding } = await world.owner.access.createBinding({
			parent: parentOf(),
			principalId: id,
			role: 'tenant.admin',
			reason: 'holiday',
			expiresAt,
		});
		const listed = await reader.access.listBindings({ parent: parentOf() });
		expect(listed.bindings.map(({ name }) => name)).toContain(binding?.name);
		expect(binding).toMatchObject({ reason: 'holiday', expiresAt, principalKind: 'user' });
		const past = { name: binding?.name ?? '', expiresAt: timestampFromMs(1), etag: binding?.etag ?? '' };
		expect(await refusalOf(world.owner.access.updateBinding(past))).toMatchObject({ reason: 'EXPIRY_INVALID' });
		const longer = await world.owner.access.updateBinding({ ...past, expiresAt, reason: 'longer' });
		expect(longer.binding?.reason).toBe('longer');
		expect(await refusalOf(world.owner.access.deleteBinding(past))).toMatchObject({ reason: 'ETAG_MISMATCH' });
		await world.owner.access.deleteBinding({ name: past.name, etag: longer.binding?.etag ?? '' });
		expect(await refusalOf(reader.access.listBindings({ parent: parentOf() }))).toMatchObject({
			reason: 'PERMISSION_DENIED',
		});
	});

	test('nobody gives what they lack: not by a role, not by one of the other plane, not by an invitation', async () => {
		const admin = await world.member('tenant.admin', parentOf(), 'operator');
		const { id } = await world.member('tenant.viewer');
		const give = (role: string) => admin.access.createBinding({ parent: parentOf(), principalId: id, role });
		expect(await refusalOf(give('tenant.owner'))).toMatchObject({ reason: 'GRANT_EXCEEDS_OWN' });
		expect(await refusalOf(give('platform.operator'))).toMatchObject({ reason: 'ROLE_UNKNOWN' });
		expect(await refusalOf(give('organizations/acme/roles/x'))).toMatchObject({ reason: 'ROLE_UNKNOWN' });
		const invite = admin.principals.createInvitation({
			parent: parentOf(),
			email: 'a@b.example',
			role: 'tenant.owner',
		});
		expect(await refusalOf(invite)).toMatchObject({ reason: 'GRANT_EXCEEDS_OWN' });
		// The platform holds everything of its own plane and nothing of a tenant's.
		const byPlatform = world.operator.access.createBinding({
			parent: parentOf(),
			principalId: id,
			role: 'tenant.developer',
		});
		expect(await refusalOf(byPlatform)).toMatchObject({ reason: 'GRANT_EXCEEDS_OWN' });
		const denied = (await world.api.audit()).filter(({ reason }) => reason === 'GRANT_EXCEEDS_OWN');
		expect(denied[0]).toMatchObject({ action: 'bindings.create', result: 'denied' });
		expect((await world.owner.access.listBindings({ parent: parentOf() })).bindings).not.toContainEqual(
			expect.objectContaining({ principalId: id, role: 'tenant.owner' }),
		);
	});

	test('the platform gives an organization its first owner, and no second one', async () => {
		const invite = (parent: string) =>
			world.operator.principals.createInvitation({ parent, email: 'a@b.example', role: 'tenant.owner' });
		const founded = { parent: 'platform', kind: ScopeKind.ORGANIZATION, id: 'hooli', displayName: 'Hooli' };
		await world.operator.scopes.createScope(founded);
		expect((await invite('organizations/hooli')).invitation?.state).toBe('open');
		expect(await refusalOf(invite(parentOf()))).toMatchObject({ reason: 'GRANT_EXCEEDS_OWN' });
		const { id: principalId } = await world.member('no.such.role');
		const second = { parent: parentOf(), principalId, role: 'tenant.owner' };
		expect(await refusalOf(world.operator.access.createBinding(second))).toMatchObject({ reason: 'GRANT_EXCEEDS_OWN' });
	});

	test('a principal has a role once at a scope', async () => {
		const { id: principalId } = await world.member('no.such.role');
		const give = () => world.owner.access.createBinding({ parent: parentOf(), principalId, role: 'tenant.billing' });
		await give();
		expect(await refusalOf(give())).toMatchObject({ code: 'AlreadyExists', reason: 'BINDING_EXISTS' });
	});

	test('a binding narrows its role and never widens it', async () => {
		const { id, ...member } = await world.member('no.such.role');
		const give = (permissions: string[]) =>
			world.owner.access.createBinding({ parent: parentOf(), principalId: id, role: 'tenant.admin', permissions });
		for (const permissions of [['ca.rotate'], ['no.such_thing'], ['scopes.get', 'scopes.delete']])
			expect(await refusalOf(give(permissions))).toMatchObject({ reason: 'PERMISSION_UNKNOWN' });
		await give(['scopes.get']);
		await member.scopes.getScope({ name: parentOf() });
		expect(await refusalOf(member.access.listBindings({ parent: parentOf() }))).toMatchObject({
			reason: 'PERMISSION_DENIED',
		});
	});

	test('a stranger’s id reads as nobody’s', async () => {
		const stranger = await world.stranger('of-another-tenant');
		const give = (principalId: string) =>
			world.owner.access.createBinding({ parent: parentOf(), principalId, role: 'tenant.viewer' });
		const [theirs, nobodys] = [await refusalOf(give(stranger)), await refusalOf(give('nobody-at-all'))];
		expect({ ...theirs, error: 0 }).toEqual({ ...nobodys, error: 0 });
		expect(theirs.reason).toBe('PRINCIPAL_NOT_FOUND');
	});

	test('the last owner stays, whoever asks and however', async () => {
		const { bindings } = await world.owner.access.listBindings({ parent: parentOf(), pageSize: 1000 });
		const own = bindings.find(({ principalId, role }) => principalId === world.ownerId && role === 'tenant.owner');
		const name = own?.name ?? '';
		const etag = own?.etag ?? '';
		for (const api of [world.owner, world.operator])
			expect(await refusalOf(api.access.deleteBinding({ name, etag }))).toMatchObject({ reason: 'LAST_OWNER' });
		const ends = { name, etag, expiresAt: timestampFromMs(Date.parse('2100-01-01')) };
		expect(await refusalOf(world.owner.access.updateBinding(ends))).toMatchObject({ reason: 'LAST_OWNER' });
		const leave = world.owner.principals.removeMember({ name: `${parentOf()}/members/${world.ownerId}` });
		expect(await refusalOf(leave)).toMatchObject({ reason: 'LAST_OWNER' });
		await world.owner.scopes.getScope({ name: parentOf() });
	});

	test('an owner for a while, or of a part of it, keeps no other owner from staying', async () => {
		const owner = await world.member('tenant.owner', parentOf(), 'operator');
		const [{ id: passing }, { id: partly }] = [await world.member('no.such.role'), await world.member('no.such.role')];
		const expiresAt = timestampFromMs(Date.parse('2100-01-01'));
		const role = { parent: parentOf(), role: 'tenant.owner' };
		await owner.access.createBinding({ ...role, principalId: passing, expiresAt });
		await owner.access.createBinding({ ...role, principalId: partly, permissions: ['scopes.get'] });
		const bindingOf = async (id: string) => {
			const { bindings } = await world.operator.access.listBindings({ parent: parentOf(), pageSize: 1000 });
			const found = bindings.find((one) => one.principalId === id && one.role === 'tenant.owner');
			return { name: found?.name ?? '', etag: found?.etag ?? '' };
		};
		await owner.access.deleteBinding(await bindingOf(world.ownerId));
		expect(await refusalOf(world.operator.access.deleteBinding(await bindingOf(owner.id)))).toMatchObject({
			reason: 'LAST_OWNER',
		});
		await owner.access.createBinding({ ...role, principalId: world.ownerId });
		for (const id of [owner.id, passing, partly]) await world.owner.access.deleteBinding(await bindingOf(id));
	});

	test('whoever would lock themselves out is stopped', async () => {
		const admin = await world.member('tenant.admin', parentOf(), 'operator');
		const { bindings } = await admin.access.listBindings({ parent: parentOf(), pageSize: 1000 });
		const own = bindings.find(({ principalId }) => principalId === admin.id);
		const drop = { name: own?.name ?? '', etag: own?.etag ?? '' };
		expect(await refusalOf(admin.access.deleteBinding(drop))).toMatchObject({ reason: 'SELF_LOCKOUT' });
		await admin.access.listBindings({ parent: parentOf() });
		await world.owner.access.deleteBinding(drop);
	});

	test('a principal has so many bindings and no more', async () => {
		const { id } = await world.member('tenant.viewer');
		await world.api.deps.store.unit(function* (tx) {
			for (let index = 1; index < BINDINGS_PER_PRINCIPAL_MAX; index += 1)
				yield* tx.access.insertBinding(bindingRow(`many-${index}`, id, { role: `x${index}` }));
		});
		const more = world.owner.access.createBinding({ parent: parentOf(), principalId: id, role: 'tenant.billing' });
		expect(await refusalOf(more)).toMatchObject({ reason: 'TOO_MANY_BINDINGS' });
	});

	test('support comes by consent only: for hours, with each permission listed', async () => {
		const supporter = await world.api.addPrincipal('user', 'platform.support', 'platform');
		const principalId = `principal-${supporter.split('_')[3]}`;
		const parent = `${parentOf()}/projects/train`;
		const consent = (hours: number, permissions: string[]) =>
			world.owner.access.createBinding({
				parent,
				principalId,
				role: 'tenant.support',
				permissions,
				expiresAt: timestampFromMs(world.api.deps.clock.now() + hours * 3_600_000),
			});
		for (const call of [() => consent(9, ['tasks.get']), () => consent(1, [])])
			expect(await refusalOf(call())).toMatchObject({ reason: 'SUPPORT_CONSENT_INVALID' });
		// To nobody else: neither to a member, nor to who was of the support until a moment ago.
		const { id: member } = await world.member('tenant.viewer');
		const soon = timestampFromMs(world.api.deps.clock.now() + 3_600_000);
		const former = idOf(await world.api.addPrincipal('user', 'no.such.role', 'platform'));
		const ended = bindingRow('former-support', former, { role: 'platform.support', scope: 'platform', expiresAtMs: 1 });
		await world.api.deps.store.unit((tx) => tx.access.insertBinding(ended));
		for (const id of [member, former, 'nobody-at-all']) {
			const asked = { parent, principalId: id, role: 'tenant.support', permissions: ['tasks.get'], expiresAt: soon };
			expect(await refusalOf(world.owner.access.createBinding(asked)), id).toMatchObject({
				reason: 'SUPPORT_CONSENT_INVALID',
			});
		}
		await consent(1, ['tasks.get', 'scopes.get']);
		const { allowed } = await world.owner.access.explain({ principalId, method: 'GetScope', resource: parent });
		expect(allowed).toBe(true);
		const { reason } = await world.owner.access.explain({ principalId, method: 'CreateGroup', resource: parent });
		expect(reason).toBe('PERMISSION_DENIED');
	});
});

describe('roles', () => {
	test('a custom role changes everywhere with its version, and goes only when nobody has it', async () => {
		const made = await world.owner.access.createRole({
			parent: parentOf(),
			id: 'watcher',
			displayName: 'Watcher',
			permissions: ['scopes.get'],
		});
		const name = made.role?.name ?? '';
		const { id, ...watcher } = await world.member('no.such.role');
		await world.owner.access.createBinding({ parent: parentOf(), principalId: id, role: name });
		await watcher.scopes.getScope({ name: parentOf() });
		expect(await refusalOf(watcher.access.getRole({ name }))).toMatchObject({ reason: 'SCOPE_NOT_FOUND' });
		const permissions = ['scopes.get', 'roles.get'];
		const { role } = await world.owner.access.updateRole({ name, permissions, etag: made.role?.etag ?? '' });
		expect(role?.version).toBe(2n);
		const seen = await watcher.access.getRole({ name });
		expect(seen.versions.map(({ version }) => version)).toEqual([2n, 1n]);
		const wider = { name, permissions: ['ca.rotate'], etag: role?.etag ?? '' };
		expect(await refusalOf(world.owner.access.updateRole(wider))).toMatchObject({ reason: 'PERMISSION_UNKNOWN' });
		const drop = world.owner.access.deleteRole({ name, etag: role?.etag ?? '' });
		expect(await refusalOf(drop)).toMatchObject({ reason: 'ROLE_IN_USE' });
		const { roles } = await world.owner.access.listRoles({ parent: parentOf() });
		expect(roles.map((one) => one.name)).toEqual(expect.arrayContaining(['tenant.owner', name]));
		const unused = await world.owner.access.createRole({ parent: parentOf(), id: 'unused', displayName: 'Unused' });
		const gone = unused.role?.name ?? '';
		await world.owner.access.deleteRole({ name: gone, etag: unused.role?.etag ?? '' });
		// Nobody gets it any more, nor does another role ever have its id.
		const late = world.owner.access.createBinding({ parent: parentOf(), principalId: id, role: gone });
		expect(await refusalOf(late)).toMatchObject({ reason: 'ROLE_UNKNOWN' });
		const again = world.owner.access.createRole({ parent: parentOf(), id: 'unused', displayName: 'Unused' });
		expect(await refusalOf(again)).toMatchObject({ reason: 'PRINCIPAL_NAME_TAKEN' });
	});
});

describe('roles and what their maker holds', () => {
	test('nobody makes a role that holds more than they do, nor widens one', async () => {
		const admin = await world.member('tenant.admin', parentOf(), 'operator');
		const more = ['scopes.get', 'scopes.delete'];
		const made = admin.access.createRole({ parent: parentOf(), id: 'more', displayName: 'More', permissions: more });
		expect(await refusalOf(made)).toMatchObject({ reason: 'GRANT_EXCEEDS_OWN' });
		const fine = { parent: parentOf(), id: 'fine', displayName: 'Fine', permissions: ['scopes.get'] };
		const { role } = await admin.access.createRole(fine);
		const named = { name: role?.name ?? '', etag: role?.etag ?? '' };
		const wider = admin.access.updateRole({ ...named, permissions: more });
		expect(await refusalOf(wider)).toMatchObject({ reason: 'GRANT_EXCEEDS_OWN' });
		const stale = world.owner.access.updateRole({ ...named, etag: 'v9', permissions: more });
		expect(await refusalOf(stale)).toMatchObject({ reason: 'ETAG_MISMATCH' });
		await world.owner.access.updateRole({ ...named, permissions: more });
	});
});

describe('guardrails', () => {
	test('one outweighs every role below it, and can’t forbid its own removal', async () => {
		const parent = `${parentOf()}/projects/train`;
		const lockout = world.owner.access.createGuardrail({ parent, permissions: ['guardrails.*'], reason: 'x' });
		expect(await refusalOf(lockout)).toMatchObject({ reason: 'GUARDRAIL_LOCKOUT' });
		const nothing = world.owner.access.createGuardrail({ parent, permissions: ['taks.create'], reason: 'x' });
		expect(await refusalOf(nothing)).toMatchObject({ reason: 'PERMISSION_UNKNOWN' });
		const { guardrail } = await world.owner.access.createGuardrail({
			parent,
			permissions: ['groups.*'],
			reason: 'audit week',
		});
		const change = () => world.owner.principals.createGroup({ parent, id: 'late', displayName: 'late' });
		// `groups.get` is forbidden too, and whoever may not get a thing is not told why.
		expect(await refusalOf(change())).toMatchObject({ reason: 'GUARDRAIL_FORBIDS' });
		expect((await world.owner.access.listGuardrails({ parent })).guardrails).toHaveLength(1);
		const drop = { name: guardrail?.name ?? '', etag: guardrail?.etag ?? '' };
		await world.owner.access.deleteGuardrail(drop);
		await change();
	});

	test('one organization leaves room for the others, and all of them for the platform', async () => {
		const forbid = (by: IamClients, parent: string) =>
			by.access.createGuardrail({ parent, permissions: ['ca.rotate'], reason: 'x' });
		const fill = async (scope: string, from: number, count: number) =>
			await world.api.deps.store.unit(function* (tx) {
				const rule = { scope, permissions: ['ca.rotate'], principalKinds: [], reason: '', createdAtMs: 1, version: 1 };
				for (let index = from; index < from + count; index += 1)
					yield* tx.access.insertGuardrail({ ...rule, id: `full-${index}`, createdBy: 'test' });
			});
		await fill(`${parentOf()}/projects/train`, 0, GUARDRAILS_PER_ORGANIZATION_MAX);
		const full = { reason: 'TOO_MANY_GUARDRAILS' };
		expect(await refusalOf(forbid(world.owner, parentOf()))).toMatchObject(full);
		await forbid(world.operator, 'organizations/acme');
		await fill('organizations/rival', GUARDRAILS_PER_ORGANIZATION_MAX, 900 - GUARDRAILS_PER_ORGANIZATION_MAX);
		expect(await refusalOf(forbid(world.operator, 'organizations/acme'))).toMatchObject(full);
		await forbid(world.operator, 'platform');
		await world.api.deps.store.unit(function* (tx) {
			yield* tx.access.lockPolicy();
			for (let index = 0; index < 900; index += 1) yield* tx.access.deleteGuardrail(`full-${index}`);
		});
	});
});

describe('explaining', () => {
	test('a decision is shown gate by gate, to those who may', async () => {
		const { id, ...viewer } = await world.member('tenant.viewer');
		const resource = parentOf();
		const mine = await viewer.access.explain({ method: 'iam.v1.ScopeService/RenameScope', resource });
		expect(mine).toMatchObject({ allowed: false, reason: 'PERMISSION_DENIED' });
		expect(mine.gates.map(({ gate, outcome }) => `${gate} ${outcome}`)).toEqual([
			'authn passed',
			'tenant passed',
			'lifecycle passed',
			'guardrail passed',
			'binding failed',
			'credential not reached',
			'assurance not reached',
		]);
		// Of the rows of now, and it says which.
		const epoch = () => world.api.deps.store.read((tx) => tx.access.policyEpoch());
		expect(mine.policyEpoch).toBe(BigInt(await epoch()));
		await world.member('tenant.viewer');
		const later = await viewer.access.explain({ method: 'iam.v1.ScopeService/RenameScope', resource });
		expect(later.policyEpoch).toBe(BigInt(await epoch()));
		expect(later.policyEpoch).toBeGreaterThan(mine.policyEpoch);
		const theirs = await world.owner.access.explain({ principalId: id, method: 'GetScope', resource });
		expect(theirs.allowed).toBe(true);
		// About others it takes the permission to explain there, which not everybody has who is there.
		const { access } = await world.member('tenant.viewer', `${parentOf()}/projects/train`);
		const asked = { principalId: world.ownerId, method: 'GetScope', resource };
		expect(await refusalOf(access.explain(asked))).toMatchObject({ reason: 'NOT_FOUND' });
		expect(await refusalOf(viewer.access.explain({ method: 'NoSuchMethod' }))).toMatchObject({
			reason: 'METHOD_UNKNOWN',
		});
	});

	test('of an object of others nothing is told, not even that it is there', async () => {
		const { access } = await world.member('tenant.viewer');
		const ask = (resource: string) => access.explain({ method: 'GetScope', resource });
		const strip = async (resource: string) => ({ ...(await ask(resource)), $typeName: '' });
		expect(await strip('organizations/acme')).toEqual(await strip('organizations/nothing'));
		const about = (resource: string) => access.whoCan({ method: 'GetScope', resource });
		const [foreign, missing] = [
			await refusalOf(about('organizations/acme')),
			await refusalOf(about('organizations/nothing')),
		];
		expect({ ...foreign, error: 0 }).toEqual({ ...missing, error: 0 });
	});

	test('about a stranger nothing is told, not even that there is one', async () => {
		const stranger = await world.stranger('of-nobody-here');
		const rival = await world.member('tenant.viewer', 'organizations/rival');
		const ask = async (principalId: string, method = 'GetScope') => {
			const refused = await refusalOf(world.owner.access.explain({ principalId, method, resource: parentOf() }));
			return { ...refused, error: 0 };
		};
		const nobody = await ask('nobody-at-all');
		for (const principalId of [stranger, rival.id, 'bootstrap-operator']) {
			expect(await ask(principalId)).toEqual(nobody);
			expect(await ask(principalId, 'NoSuchMethod')).toEqual(await ask('nobody-at-all', 'NoSuchMethod'));
		}
		const asked = { principalId: stranger, method: 'GetScope', resource: parentOf() };
		expect((await world.operator.access.explain(asked)).allowed).toBe(false);
	});

	test('who can is everybody for whom the decision is yes', async () => {
		const resource = `${parentOf()}/projects/train`;
		const { grants } = await world.owner.access.whoCan({ method: 'DeleteScope', resource, pageSize: 1000 });
		const shown = (list: typeof grants) => list.map(({ principalId, role }) => [principalId, role]);
		// Who works for the platform is shown to those who may explain there.
		expect(shown(grants)).toEqual([[world.ownerId, 'tenant.owner']]);
		const all = await world.operator.access.whoCan({ method: 'DeleteScope', resource, pageSize: 1000 });
		expect(shown(all.grants)).toEqual([
			['bootstrap-operator', 'platform.operator'],
			[world.ownerId, 'tenant.owner'],
		]);
		for (const { principalId } of (await world.owner.access.whoCan({ method: 'GetScope', resource })).grants) {
			const asked = { principalId, method: 'GetScope', resource };
			expect((await world.owner.access.explain(asked)).allowed, principalId).toBe(true);
		}
	});

	test('who can leaves out whoever could not call: suspended, past the end, without that part of the role', async () => {
		const resource = `${parentOf()}/projects/train`;
		const { access } = world.owner;
		const now = world.api.deps.clock.now();
		const [suspended, ended, narrowed, able] = [
			await world.member('no.such.role'),
			await world.member('no.such.role'),
			await world.member('no.such.role'),
			await world.member('no.such.role'),
		];
		const rows = [
			bindingRow('who-suspended', suspended.id, { role: 'tenant.admin', scope: resource }),
			bindingRow('who-ended', ended.id, { role: 'tenant.admin', scope: resource, expiresAtMs: now - 1 }),
			bindingRow('who-narrowed', narrowed.id, { role: 'tenant.admin', scope: resource, permissions: ['scopes.get'] }),
			bindingRow('who-able', able.id, { role: 'tenant.admin', scope: resource }),
		];
		await world.api.deps.store.unit(
			underPolicy(function* (tx) {
				for (const row of rows) yield* tx.access.insertBinding(row);
				yield* tx.identities.updatePrincipal(suspended.id, { disabledAtMs: 1 });
			}),
		);
		const { grants } = await access.whoCan({ method: 'RenameScope', resource, pageSize: 1000 });
		const found = grants.map(({ principalId }) => principalId);
		expect(found).toContain(able.id);
		for (const { id } of [suspended, ended, narrowed]) expect(found).not.toContain(id);
	});

	test('explain says what the call itself meets', async () => {
		const { key, access } = await world.member('tenant.viewer', `${parentOf()}/projects/train`);
		const node = await world.api.addNode();
		const met = await refusalOf(world.api.client(NodeService, key).getNode({ node: node.id }));
		const { reason } = await access.explain({ method: 'GetNode', resource: `nodes/${node.id}` });
		expect([met.reason, reason]).toEqual(['NODE_NOT_FOUND', 'NOT_FOUND']);
	});
});
