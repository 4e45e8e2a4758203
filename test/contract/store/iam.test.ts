import { expect, test } from 'vitest';
import type { Store } from '../../../control-plane/store/port/store.ts';
import { bindingRow, credentialRow, principalRow, scopeRow } from './rows.ts';
import { eachStore } from './stores.ts';

const ACME = scopeRow('organizations/acme', '/acme/');
const RESEARCH = scopeRow('organizations/acme/departments/research', '/acme/d.research/');
const TRAIN = scopeRow('organizations/acme/projects/train', '/acme/d.research/p.train/', { parent: RESEARCH.name });
const WEB = scopeRow('organizations/acme/projects/web', '/acme/p.web/');
const RIVAL = scopeRow('organizations/acme-rival', '/acme-rival/');

async function insertTree(store: Store): Promise<void> {
	await store.unit(function* (tx) {
		for (const row of [ACME, RESEARCH, TRAIN, WEB, RIVAL]) yield* tx.scopes.insert(row);
	});
}

const page = { afterId: '', limit: 10 };
const everything = { ...page, visibility: { all: true }, organization: null, parent: null, kinds: [] } as const;
const names = (rows: readonly { readonly name: string }[]) => rows.map(({ name }) => name);

eachStore('identity and access', (kind) => {
	test('the tree has the platform at its root and every path once', async () => {
		await using world = await kind.create();
		const { store } = world;
		await insertTree(store);
		expect(await store.read((tx) => tx.scopes.get('platform'))).toMatchObject({ path: '/', parent: null });
		expect(await store.read((tx) => tx.scopes.get(TRAIN.name))).toEqual(TRAIN);
		const at = await store.read((tx) => tx.scopes.atPaths(['/', '/acme/', '/nowhere/']));
		expect(names(at).sort()).toEqual(['organizations/acme', 'platform']);
		const again = { ...ACME, path: '/other/', skeleton: 'other' };
		await expect(store.unit((tx) => tx.scopes.insert(again))).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
		const looksAlike = scopeRow('organizations/acme2', '/acme2/', { skeleton: 'acme' });
		await expect(store.unit((tx) => tx.scopes.insert(looksAlike))).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
	});

	test('a list of scopes is what lies below the grants and not below a denial', async () => {
		await using world = await kind.create();
		const { store } = world;
		await insertTree(store);
		const seen = async (grants: string[], denials: string[] = []) =>
			names(
				await store.read((tx) =>
					tx.scopes.list({
						...everything,
						visibility: { all: false, unowned: false, deleted: false, grants, denials },
					}),
				),
			);
		expect(await seen(['/acme/'])).toEqual([ACME.name, RESEARCH.name, TRAIN.name, WEB.name]);
		expect(await seen(['/acme/'], ['/acme/d.research/'])).toEqual([ACME.name, WEB.name]);
		expect(await seen(['/acme/d.research/', '/acme-rival/'])).toEqual([RIVAL.name, RESEARCH.name, TRAIN.name].sort());
		expect(await seen([])).toEqual([]);
		const projects = await store.read((tx) =>
			tx.scopes.list({ ...everything, organization: 'acme', kinds: ['project'], parent: ACME.name }),
		);
		expect(names(projects)).toEqual([WEB.name]);
		expect(names(await store.read((tx) => tx.scopes.list({ ...everything, afterId: TRAIN.name })))).toEqual([
			WEB.name,
			'platform',
		]);
	});

	test('moving gives everything below a new place and changes no name', async () => {
		await using world = await kind.create();
		const { store } = world;
		await insertTree(store);
		const lab = scopeRow('organizations/acme/departments/lab', '/acme/d.lab/');
		await store.unit(function* (tx) {
			yield* tx.scopes.insert(lab);
			yield* tx.scopes.movePaths('/acme/d.research/', '/acme/d.lab/d.research/');
			yield* tx.scopes.update(RESEARCH.name, { parent: lab.name, path: '/acme/d.lab/d.research/' }, 1);
		});
		const below = await store.read((tx) => tx.scopes.listBelow('/acme/d.lab/', 10));
		expect(below.map(({ name, path }) => [name, path])).toEqual([
			[RESEARCH.name, '/acme/d.lab/d.research/'],
			[TRAIN.name, '/acme/d.lab/d.research/p.train/'],
		]);
		expect(await store.read((tx) => tx.scopes.countBelow('/acme/'))).toBe(4);
		expect(await store.unit((tx) => tx.scopes.update(WEB.name, { state: 'suspended' }, 7))).toBeUndefined();
		const doomed = { state: 'deleting', deleteAtMs: 50 } as const;
		expect(await store.unit((tx) => tx.scopes.update(WEB.name, doomed, 1))).toMatchObject({ version: 2, ...doomed });
		expect(names(await store.read((tx) => tx.scopes.listDeletionsDue(50, 10)))).toEqual([WEB.name]);
		expect(await store.read((tx) => tx.scopes.listDeletionsDue(49, 10))).toEqual([]);
	});

	test('the same subject at another issuer is a stranger', async () => {
		await using world = await kind.create();
		const { store } = world;
		const ada = {
			issuer: 'https://a.example',
			subject: '1',
			principalId: 'ada',
			email: 'ada@acme.example',
			emailVerified: true,
			createdAtMs: 1,
			lastLoginAtMs: null,
			lastAcr: '',
			lastAmr: '',
			lastAuthTimeMs: null,
		};
		await store.unit(function* (tx) {
			yield* tx.identities.insertPrincipal(principalRow('ada', { email: 'ada@acme.example' }));
			yield* tx.identities.insertPrincipal(principalRow('bob'));
			yield* tx.identities.insertUserIdentity(ada);
		});
		const taken = store.unit((tx) => tx.identities.insertUserIdentity({ ...ada, principalId: 'bob' }));
		await expect(taken).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
		const epoch = await store.read((tx) => tx.access.policyEpoch());
		const strength = { lastAcr: 'gold', lastAmr: 'pwd otp', lastAuthTimeMs: 8 };
		const seen = { email: 'ada@new.example', emailVerified: false, lastLoginAtMs: 9, ...strength };
		await store.unit((tx) => tx.identities.recordLogin(ada.issuer, '1', seen));
		expect(await store.read((tx) => tx.identities.getUserIdentity(ada.issuer, '1'))).toEqual({ ...ada, ...seen });
		expect(await store.read((tx) => tx.identities.getUserIdentity('https://b.example', '1'))).toBeUndefined();
		expect(await store.read((tx) => tx.identities.listUserIdentities(['ada', 'bob']))).toEqual([{ ...ada, ...seen }]);
		expect(await store.read((tx) => tx.access.policyEpoch())).toBe(epoch);
	});

	test('members and groups', async () => {
		await using world = await kind.create();
		const { store } = world;
		await insertTree(store);
		const home = { organization: 'acme', home: ACME.name };
		const by = { addedBy: 'operator' };
		await store.unit(function* (tx) {
			yield* tx.identities.insertPrincipal(principalRow('ada'));
			yield* tx.identities.insertPrincipal(principalRow('g', { kind: 'group', name: 'ml', ...home }));
			yield* tx.identities.insertPrincipal(principalRow('sa', { kind: 'service_account', name: 'ml', ...home }));
			yield* tx.identities.insertMember({ organization: 'acme', principalId: 'ada', joinedAtMs: 1, ...by });
			yield* tx.identities.insertGroupMember({ groupId: 'g', principalId: 'ada', addedAtMs: 1, ...by });
		});
		expect((await store.read((tx) => tx.identities.getByName('acme', 'group', 'ml')))?.id).toBe('g');
		expect((await store.read((tx) => tx.identities.groupsOf('ada'))).map(({ id }) => id)).toEqual(['g']);
		expect(await store.read((tx) => tx.identities.listMemberships('ada'))).toHaveLength(1);
		expect(await store.read((tx) => tx.identities.listGroupMembers({ ...page, groupId: 'g' }))).toHaveLength(1);
		const homed = await store.read((tx) => tx.identities.listHomed([ACME.name], 10));
		expect(homed.map(({ id }) => id)).toEqual(['g', 'sa']);
		const twin = principalRow('g2', { kind: 'group', name: 'ml', ...home });
		await expect(store.unit((tx) => tx.identities.insertPrincipal(twin))).rejects.toMatchObject({
			code: 'ALREADY_EXISTS',
		});
		expect(await store.unit((tx) => tx.identities.updatePrincipal('g', { deletedAtMs: 5 }, 9))).toBeUndefined();
		await store.unit((tx) => tx.identities.updatePrincipal('g', { deletedAtMs: 5 }, 1));
		expect(await store.read((tx) => tx.identities.groupsOf('ada'))).toEqual([]);
		await store.unit((tx) => tx.identities.insertPrincipal(twin));
		expect(await store.unit((tx) => tx.identities.deleteGroupMember('g', 'ada'))).toBe(true);
		expect(await store.unit((tx) => tx.identities.deleteMember('acme', 'ada'))).toBe(true);
		expect(await store.unit((tx) => tx.identities.deleteMember('acme', 'ada'))).toBe(false);
		const users = { ...page, kind: 'user', home: null } as const;
		expect((await store.read((tx) => tx.identities.listPrincipals(users))).map(({ id }) => id)).toEqual(['ada']);
	});

	test('every change of who may do what raises the policy epoch', async () => {
		await using world = await kind.create();
		const { store } = world;
		await insertTree(store);
		const epoch = () => store.read((tx) => tx.access.policyEpoch());
		let last = await epoch();
		const step = async (plan: Parameters<typeof store.unit>[0]) => {
			await store.unit(plan);
			const next = await epoch();
			expect(next).toBeGreaterThan(last);
			last = next;
		};
		const key = {
			id: 'k',
			principalId: 'p',
			displayName: 'ci',
			permissions: ['tasks.get'],
			scope: '',
			cidrs: [],
			createdAtMs: 1,
			createdBy: 'ada',
			revokedAtMs: null,
			revokedReason: '',
			version: 1,
		};
		await step((tx) => tx.identities.insertPrincipal(principalRow('p')));
		await step((tx) => tx.apiKeys.insert(key));
		await step((tx) => tx.apiKeys.insertCredential(credentialRow('c', 'p', { keyId: 'k' })));
		await step((tx) => tx.access.insertBinding(bindingRow('b', 'p', { permissions: ['tasks.get'] })));
		expect(await store.read((tx) => tx.access.listBindings(['p', 'q']))).toMatchObject([
			{ permissions: ['tasks.get'] },
		]);
		expect(await store.read((tx) => tx.apiKeys.list({ ...page, principalIds: ['p'] }))).toEqual([key]);
		await step((tx) => tx.apiKeys.setExpiry('c', 7));
		await step((tx) => tx.apiKeys.revokeCredential('c', 5));
		expect(await store.unit((tx) => tx.apiKeys.revokeCredential('c', 6))).toBe(false);
		expect(await store.read((tx) => tx.apiKeys.credentialsOf(['k']))).toMatchObject([
			{ revokedAtMs: 5, expiresAtMs: 7 },
		]);
		await step((tx) => tx.apiKeys.revokeAllOf('p', 8, 'left'));
		expect(await store.read((tx) => tx.apiKeys.get('k'))).toMatchObject({ revokedAtMs: 8, revokedReason: 'left' });
		await step((tx) => tx.access.updateBinding('b', { expiresAtMs: 20 }, 1));
		await step((tx) => tx.access.deleteBinding('b', 2));
		await step((tx) => tx.scopes.update(WEB.name, { state: 'suspended' }));
		expect(await epoch()).toBe(last);
		await store.unit((tx) => tx.access.lockPolicy());
		await store.unit((tx) => tx.apiKeys.recordUses([{ credentialId: 'c', usedAtMs: 9, peer: '10.0.0.1' }]));
		await store.unit((tx) => tx.apiKeys.recordUses([{ credentialId: 'c', usedAtMs: 3, peer: '10.0.0.2' }]));
		expect(await store.read((tx) => tx.apiKeys.usesOf(['c']))).toMatchObject([{ usedAtMs: 9, peer: '10.0.0.1' }]);
		expect(await epoch()).toBe(last);
	});

	test('bindings, roles with their versions, guardrails', async () => {
		await using world = await kind.create();
		const { store } = world;
		await insertTree(store);
		const role = {
			name: 'organizations/acme/roles/trainer',
			organization: 'acme',
			displayName: 'Trainer',
			permissions: ['tasks.create'],
			createdAtMs: 1,
			createdBy: 'ada',
			deletedAtMs: null,
			version: 1,
		};
		const by = { atMs: 2, changedBy: 'bob' };
		const rule = {
			id: 'r',
			scope: ACME.name,
			permissions: ['tasks.*'],
			principalKinds: ['service_account'],
			reason: 'audit week',
			createdAtMs: 1,
			createdBy: 'ada',
			version: 1,
		} as const;
		await store.unit(function* (tx) {
			yield* tx.identities.insertPrincipal(principalRow('p'));
			yield* tx.access.insertRole(role);
			yield* tx.access.insertGuardrail(rule);
			yield* tx.access.insertBinding(bindingRow('b1', 'p', { role: role.name }));
			yield* tx.access.insertBinding(bindingRow('b2', 'p', { scope: TRAIN.name, expiresAtMs: 10 }));
			yield* tx.access.insertBinding(bindingRow('b3', 'p', { scope: RIVAL.name }));
		});
		const changed = await store.unit((tx) => tx.access.updateRole(role.name, { permissions: [] }, by, 1));
		expect(changed).toEqual({ ...role, permissions: [], version: 2 });
		expect(await store.unit((tx) => tx.access.updateRole(role.name, { permissions: [] }, by, 1))).toBeUndefined();
		const versions = await store.read((tx) => tx.access.listRoleVersions(role.name, 10));
		expect(versions.map(({ version, permissions }) => [version, permissions])).toEqual([
			[2, []],
			[1, ['tasks.create']],
		]);
		expect(await store.read((tx) => tx.access.getRoles([role.name, 'none']))).toHaveLength(1);
		expect(await store.read((tx) => tx.access.listRoles({ ...page, organization: 'acme' }))).toHaveLength(1);
		expect(await store.read((tx) => tx.access.allGuardrails(10))).toEqual([rule]);
		expect(await store.read((tx) => tx.access.listGuardrails({ ...page, scopes: [WEB.name] }))).toEqual([]);
		expect(await store.unit((tx) => tx.access.deleteGuardrail('r', 2))).toBe(false);
		expect(await store.unit((tx) => tx.access.deleteGuardrail('r', 1))).toBe(true);
		const at = await store.read((tx) => tx.access.listBindingsAt({ ...page, scopes: [ACME.name, TRAIN.name] }));
		expect(at.map(({ id }) => id)).toEqual(['b1', 'b2']);
		expect(await store.read((tx) => tx.access.listBindingsOfRole(role.name, null, 10))).toHaveLength(1);
		expect(await store.read((tx) => tx.access.listBindingsOfRole(role.name, TRAIN.name, 10))).toEqual([]);
		expect(await store.read((tx) => tx.access.countBindings('p'))).toBe(3);
		expect(await store.unit((tx) => tx.access.deleteExpiredBindings(10, 10))).toBe(0);
		expect(await store.unit((tx) => tx.access.deleteExpiredBindings(11, 10))).toBe(1);
		expect(await store.unit((tx) => tx.access.deleteBindingsIn('acme', 'p'))).toBe(1);
		expect((await store.read((tx) => tx.access.listBindings(['p']))).map(({ id }) => id)).toEqual(['b3']);
	});

	test('what has a limit of number is counted while it lives, where it is', async () => {
		await using world = await kind.create();
		const { store } = world;
		await insertTree(store);
		const named = (id: string, more: object) =>
			principalRow(id, { kind: 'group', organization: 'acme', home: ACME.name, name: id, ...more });
		const role = (organization: string, id: string, deletedAtMs: number | null) => ({
			...{ name: `organizations/${organization}/roles/${id}`, organization, displayName: id, permissions: [] },
			...{ createdAtMs: 1, createdBy: 'ada', deletedAtMs, version: 1 },
		});
		const key = (id: string, principalId: string) => ({
			...{ id, principalId, displayName: id, permissions: [], scope: '', cidrs: [], createdAtMs: 1, createdBy: 'p' },
			...{ revokedAtMs: null, revokedReason: '', version: 1 },
		});
		await store.unit(function* (tx) {
			yield* tx.identities.insertPrincipal(named('one', {}));
			yield* tx.identities.insertPrincipal(named('two', { home: TRAIN.name }));
			yield* tx.identities.insertPrincipal(named('gone', { deletedAtMs: 2 }));
			yield* tx.identities.insertPrincipal(named('program', { kind: 'service_account' }));
			yield* tx.identities.insertPrincipal(named('theirs', { organization: 'acme-rival', home: RIVAL.name }));
			for (const person of ['p', 'q']) yield* tx.identities.insertPrincipal(principalRow(person));
			yield* tx.access.insertRole(role('acme', 'a', null));
			yield* tx.access.insertRole(role('acme', 'b', 2));
			yield* tx.access.insertRole(role('acme-rival', 'a', null));
			for (const [id, owner] of [
				['k1', 'p'],
				['k2', 'p'],
				['k3', 'p'],
				['k4', 'q'],
			] as const)
				yield* tx.apiKeys.insert(key(id, owner));
			// One that is being rotated has two, and is one key.
			yield* tx.apiKeys.insertCredential(credentialRow('c1', 'p', { keyId: 'k1' }));
			yield* tx.apiKeys.insertCredential(credentialRow('c2', 'p', { keyId: 'k1' }));
			yield* tx.apiKeys.insertCredential(credentialRow('c3', 'p', { keyId: 'k2', expiresAtMs: 5 }));
			yield* tx.apiKeys.insertCredential(credentialRow('c4', 'p', { keyId: 'k3', revokedAtMs: 2 }));
			yield* tx.apiKeys.insertCredential(credentialRow('c5', 'q', { keyId: 'k4' }));
			yield* tx.apiKeys.insertCredential(credentialRow('c6', 'p'));
		});
		const counted = await store.read(function* (tx) {
			return {
				groups: yield* tx.identities.countNamed('acme', 'group'),
				accounts: yield* tx.identities.countNamed('acme', 'service_account'),
				roles: yield* tx.access.countRoles('acme'),
				before: yield* tx.apiKeys.countLive('p', 4, ''),
				keys: yield* tx.apiKeys.countLive('p', 5, ''),
				others: yield* tx.apiKeys.countLive('p', 5, 'k1'),
			};
		});
		expect(counted).toEqual({ groups: 2, accounts: 1, roles: 1, before: 2, keys: 1, others: 0 });
	});

	test('an invitation is used once', async () => {
		await using world = await kind.create();
		const { store } = world;
		const invitation = {
			id: 'i',
			organization: 'acme',
			email: 'ada@acme.example',
			tokenSha256: new Uint8Array(32).fill(7),
			role: 'tenant.viewer',
			scope: ACME.name,
			createdAtMs: 1,
			createdBy: 'bob',
			expiresAtMs: 10,
			acceptedAtMs: null,
			acceptedBy: null,
			revokedAtMs: null,
			version: 1,
		};
		await store.unit((tx) => tx.invitations.insert(invitation));
		expect(await store.read((tx) => tx.invitations.getByToken(invitation.tokenSha256))).toEqual(invitation);
		const accept = () => store.unit((tx) => tx.invitations.accept('i', 'ada', 5));
		expect(await accept()).toMatchObject({ acceptedBy: 'ada', acceptedAtMs: 5, version: 2 });
		expect(await accept()).toBeUndefined();
		expect(await store.unit((tx) => tx.invitations.revoke('i', 6))).toBeUndefined();
		expect(await store.read((tx) => tx.invitations.list({ ...page, organization: 'acme' }))).toHaveLength(1);
		const more = (id: string, patch: object) =>
			store.unit((tx) =>
				tx.invitations.insert({ ...invitation, id, tokenSha256: Buffer.from(id.padEnd(32, '-')), ...patch }),
			);
		await more('i2', {});
		await more('i3', { organization: 'rival' });
		await more('i4', { createdBy: 'somebody' });
		const open = (atMs: number) => store.read((tx) => tx.invitations.countOpen('acme', atMs));
		expect([await open(9), await open(10)], 'not the accepted one, and none of a rival').toEqual([2, 0]);
		const { createdBy } = invitation;
		expect(await store.unit((tx) => tx.invitations.revokeAllBy(createdBy, 'acme', 7))).toBe(1);
		expect(await open(9)).toBe(1);
		expect(await store.unit((tx) => tx.invitations.revokeAllBy(createdBy, null, 8))).toBe(1);
		const state = (id: string) => store.read((tx) => tx.invitations.get(id)).then((row) => row?.revokedAtMs);
		expect([await state('i'), await state('i2'), await state('i3'), await state('i4')]).toEqual([null, 7, 8, null]);
	});
});
