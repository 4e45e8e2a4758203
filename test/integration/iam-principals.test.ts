import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { type IamClients, IamWorld } from './iam-world.ts';
import { refusalOf } from './refusal.ts';

let world: IamWorld;
beforeAll(async () => {
	world = await IamWorld.start();
});
afterAll(() => world[Symbol.asyncDispose]());

describe('groups', () => {
	test('a group gives its members what it holds, and only whoever holds that adds to it', async () => {
		const parent = world.organization;
		const { principal: group } = await world.owner.principals.createGroup({ parent, id: 'ml', displayName: 'ML' });
		const name = group?.name ?? '';
		const principalId = group?.id ?? '';
		await world.owner.access.createBinding({ parent, principalId, role: 'tenant.owner' });
		const { id, ...member } = await world.member('no.such.role');
		const admin = await world.member('tenant.admin', parent, 'operator');
		const add = { name, principalId: id };
		expect(await refusalOf(admin.principals.addGroupMember(add))).toMatchObject({ reason: 'GRANT_EXCEEDS_OWN' });
		await world.owner.principals.addGroupMember(add);
		await world.owner.principals.addGroupMember(add);
		await member.access.listBindings({ parent });
		const inner = await world.owner.principals.createGroup({ parent, id: 'inner', displayName: 'inner' });
		const nested = world.owner.principals.addGroupMember({ name, principalId: inner.principal?.id ?? '' });
		expect(await refusalOf(nested)).toMatchObject({ message: expect.stringContaining('not other groups') });
		await world.owner.principals.deleteGroup({
			name: inner.principal?.name ?? '',
			etag: inner.principal?.etag ?? '',
		});
		const { principals } = await world.owner.principals.listGroupMembers({ name });
		expect(principals.map((one) => one.id)).toEqual([id]);
		const { grants } = await world.owner.access.whoCan({ method: 'DeleteScope', resource: parent });
		expect(grants).toContainEqual(expect.objectContaining({ principalId: id, through: 'ml' }));
		await world.owner.principals.removeGroupMember(add);
		expect(await refusalOf(member.access.listBindings({ parent }))).toMatchObject({ reason: 'SCOPE_NOT_FOUND' });
		const twin = world.owner.principals.createGroup({ parent, id: 'ml', displayName: 'again' });
		expect(await refusalOf(twin)).toMatchObject({ reason: 'PRINCIPAL_NAME_TAKEN' });
		expect((await world.owner.principals.getGroup({ name })).principal?.id).toBe(principalId);
		expect((await world.owner.principals.listGroups({ parent })).principals).toHaveLength(1);
		await world.owner.principals.deleteGroup({ name, etag: group?.etag ?? '' });
		expect(await refusalOf(world.owner.principals.getGroup({ name }))).toMatchObject({ reason: 'SCOPE_NOT_FOUND' });
		const { bindings } = await world.owner.access.listBindings({ parent, pageSize: 1000 });
		expect(bindings.filter((one) => one.principalId === principalId)).toEqual([]);
	});
});

describe('service accounts', () => {
	test('one is suspended, resumed and deleted with its keys', async () => {
		const parent = world.organization;
		const { principal } = await world.owner.principals.createServiceAccount({ parent, id: 'ci', displayName: 'CI' });
		const name = principal?.name ?? '';
		const made = await world.owner.keys.createKey({ serviceAccount: name, displayName: 'k' });
		const whoAmI = () => world.api.client(SystemService, made.secret).whoAmI({});
		await whoAmI();
		const suspended = await world.owner.principals.suspendServiceAccount({
			name,
			reason: 'leak',
			etag: principal?.etag ?? '',
		});
		expect(suspended.principal).toMatchObject({ suspended: true, suspendedReason: 'leak' });
		expect(await refusalOf(whoAmI())).toMatchObject({ code: 'Unauthenticated' });
		const etag = suspended.principal?.etag ?? '';
		const resumed = await world.owner.principals.resumeServiceAccount({ name, etag });
		await whoAmI();
		expect((await world.owner.principals.getServiceAccount({ name })).principal?.suspended).toBe(false);
		expect((await world.owner.principals.listServiceAccounts({ parent })).principals).toHaveLength(1);
		await world.owner.principals.deleteServiceAccount({ name, etag: resumed.principal?.etag ?? '' });
		expect(await refusalOf(whoAmI())).toMatchObject({ code: 'Unauthenticated' });
		// Revoked, not only orphaned, and counted no more.
		const keyId = made.key?.name.split('/').at(-1) ?? '';
		const left = await world.api.deps.store.read(function* (tx) {
			return { key: yield* tx.apiKeys.find(keyId), held: yield* tx.quotas.reservations('api_keys', [keyId]) };
		});
		expect(left).toMatchObject({ key: { revokedReason: 'its service account was deleted' }, held: [] });
		expect((await world.owner.principals.listServiceAccounts({ parent })).principals).toEqual([]);
	});
});

describe('members and users', () => {
	test('whoever is taken out of an organization holds nothing in it', async () => {
		const { id, ...member } = await world.member('tenant.viewer');
		await member.scopes.getScope({ name: world.organization });
		const listed = await world.owner.principals.listMembers({ parent: world.organization, pageSize: 1000 });
		expect(listed.principals.map((one) => one.id)).toContain(id);
		const name = `${world.organization}/members/${id}`;
		const parent = world.organization;
		const group = await world.owner.principals.createGroup({ parent, id: 'leavers', displayName: 'leavers' });
		await world.owner.principals.addGroupMember({ name: group.principal?.name ?? '', principalId: id });
		const role = { parent, principalId: group.principal?.id ?? '', role: 'tenant.viewer' };
		await world.owner.access.createBinding(role);
		await world.owner.principals.removeMember({ name, reason: 'left' });
		const left = await world.owner.principals.listGroupMembers({ name: group.principal?.name ?? '' });
		expect(left.principals).toEqual([]);
		expect(await refusalOf(member.scopes.getScope({ name: world.organization }))).toMatchObject({
			reason: 'SCOPE_NOT_FOUND',
		});
		expect(await refusalOf(world.owner.principals.removeMember({ name }))).toMatchObject({
			reason: 'SCOPE_NOT_FOUND',
		});
	});

	test('a suspended user is out everywhere, and the platform’s last operator stays', async () => {
		const { id, ...member } = await world.member('tenant.viewer');
		const { principals } = await world.operator.principals.listUsers({ pageSize: 1000 });
		const etag = principals.find((one) => one.id === id)?.etag ?? '';
		expect(await refusalOf(world.owner.principals.listUsers({}))).toMatchObject({ reason: 'PERMISSION_DENIED' });
		const done = await world.operator.principals.suspendUser({ userId: id, reason: 'fraud', etag });
		expect(await refusalOf(member.scopes.listScopes({}))).toMatchObject({ code: 'Unauthenticated' });
		await world.operator.principals.resumeUser({ userId: id, etag: done.principal?.etag ?? '' });
		await member.scopes.listScopes({});
		const { bindings } = await world.operator.access.listBindings({ parent: 'platform' });
		const last = bindings.find(({ role }) => role === 'platform.operator');
		const drop = world.operator.access.deleteBinding({ name: last?.name ?? '', etag: last?.etag ?? '' });
		expect(await refusalOf(drop)).toMatchObject({ reason: 'LAST_OWNER' });
	});
});

describe('invitations', () => {
	test('the token is shown once, kept as a hash, and a revoked one stays closed', async () => {
		const parent = `${world.organization}/projects/train`;
		const made = await world.owner.principals.createInvitation({
			parent,
			email: 'Ada@Acme.Example',
			role: 'tenant.viewer',
		});
		expect(made.invitationToken).toMatch(/^gpu_inv_[A-Za-z0-9_-]{43}$/);
		expect(made.invitation).toMatchObject({ email: 'ada@acme.example', state: 'open', scope: parent });
		const { createdAt, expiresAt } = made.invitation ?? {};
		expect(Number(expiresAt?.seconds) - Number(createdAt?.seconds)).toBe(7 * 86_400);
		const name = made.invitation?.name ?? '';
		// One is seen at exactly the scope that it is for.
		const above = { parent: world.organization, email: 'bo@acme.example', role: 'tenant.viewer' };
		await world.owner.principals.createInvitation(above);
		const { invitations } = await world.owner.principals.listInvitations({ parent });
		expect(invitations.map((one) => one.name)).toEqual([name]);
		const row = await world.api.deps.store.read((tx) => tx.invitations.get(name.split('/').at(-1) ?? ''));
		expect(Buffer.from(row?.tokenSha256 ?? []).toString('hex')).toBe(
			createHash('sha256').update(made.invitationToken).digest('hex'),
		);
		const records = JSON.stringify(await world.api.audit());
		expect(records).not.toContain(made.invitationToken);
		expect(records).not.toContain('ada@acme.example');
		const revoked = await world.owner.principals.revokeInvitation({ name });
		expect(revoked.invitation?.state).toBe('revoked');
		expect(await refusalOf(world.owner.principals.revokeInvitation({ name }))).toMatchObject({
			reason: 'INVITATION_CLOSED',
		});
	});

	test('nobody is invited to support: that takes consent, hours and a list of permissions', async () => {
		const invite = { parent: world.organization, email: 'a@b.example', role: 'tenant.support' };
		expect(await refusalOf(world.owner.principals.createInvitation(invite))).toMatchObject({
			reason: 'SUPPORT_CONSENT_INVALID',
		});
	});

	test('whoever is taken out or suspended takes their open invitations along', async () => {
		const parent = world.organization;
		const stateOf = async (name: string) => {
			const { invitations } = await world.owner.principals.listInvitations({ parent, pageSize: 1000 });
			return invitations.find((one) => one.name === name)?.state;
		};
		const invited = async (by: IamClients) => {
			const made = await by.principals.createInvitation({ parent, email: 'b@b.example', role: 'tenant.viewer' });
			return made.invitation?.name ?? '';
		};
		const others = await invited(world.owner);
		const leaver = await world.member('tenant.admin', parent, 'operator');
		const byLeaver = await invited(leaver);
		await world.owner.principals.removeMember({ name: `${parent}/members/${leaver.id}` });
		const suspect = await world.member('tenant.admin');
		const bySuspect = await world.api.deps.store.unit(function* (tx) {
			const row = yield* tx.invitations.get(others.split('/').at(-1) ?? '');
			if (row === undefined) throw new Error('it is there');
			const tokenSha256 = new Uint8Array(32).fill(3);
			yield* tx.invitations.insert({ ...row, id: 'by-suspect', createdBy: suspect.id, tokenSha256 });
			return `${parent}/invitations/by-suspect`;
		});
		expect(await stateOf(bySuspect)).toBe('open');
		const { principals } = await world.operator.principals.listUsers({ pageSize: 1000 });
		const etag = principals.find((one) => one.id === suspect.id)?.etag ?? '';
		await world.operator.principals.suspendUser({ userId: suspect.id, reason: 'fraud', etag });
		expect([await stateOf(byLeaver), await stateOf(bySuspect), await stateOf(others)]).toEqual([
			'revoked',
			'revoked',
			'open',
		]);
	});
});
