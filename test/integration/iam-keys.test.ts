import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ScopeService } from '../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { TokenService } from '../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { bindingRow } from '../contract/store/rows.ts';
import { IamWorld, iamClients } from './iam-world.ts';
import { underPolicy } from './lock-order.ts';
import { refusalOf } from './refusal.ts';

let world: IamWorld;
let account: string;
beforeAll(async () => {
	world = await IamWorld.start();
	const parent = world.organization;
	const { principal } = await world.owner.principals.createServiceAccount({ parent, id: 'ci', displayName: 'CI' });
	account = principal?.name ?? '';
	await world.owner.access.createBinding({ parent, principalId: principal?.id ?? '', role: 'tenant.admin' });
});
afterAll(() => world[Symbol.asyncDispose]());

const whoAmI = (secret: string) => world.api.client(SystemService, secret).whoAmI({});
const scopes = (secret: string) => world.api.client(ScopeService, secret);
const create = (more: Record<string, unknown> = {}) =>
	world.owner.keys.createKey({ serviceAccount: account, displayName: 'build', ...more });

describe('keys of service accounts', () => {
	test('a key is shown once, and only its verifier is kept', async () => {
		const { key, secret } = await create();
		expect(secret).toMatch(/^gpu_sk_test_[0-9a-z]{12}_[A-Za-z0-9_-]{49}$/);
		expect((await whoAmI(secret)).kind).toBe('service_account');
		const listed = await world.owner.keys.listKeys({ serviceAccount: account });
		expect(listed.keys.map(({ name }) => name)).toContain(key?.name);
		const everything = JSON.stringify([listed, await world.api.audit()], (_, value: unknown) =>
			typeof value === 'bigint' ? String(value) : value,
		);
		expect(everything).not.toContain(secret);
		const [version] = key?.versions ?? [];
		const days = (Number(version?.expiresAt?.seconds) - Number(version?.createdAt?.seconds)) / 86_400;
		expect(days).toBe(90);
		const year = { seconds: 365n * 86_400n + 1n, nanos: 0 };
		expect(await refusalOf(create({ ttl: year }))).toMatchObject({ reason: 'INVALID_REQUEST' });
	});

	test('access is the account’s and the key’s, when it is used', async () => {
		const project = `${world.organization}/projects/train`;
		const reader = (await create({ permissions: ['scopes.get'], scope: project })).secret;
		await scopes(reader).getScope({ name: project });
		expect((await scopes(reader).listScopes({})).scopes.map(({ name }) => name)).toEqual([project]);
		expect(await refusalOf(scopes(reader).getScope({ name: world.organization }))).toMatchObject({
			reason: 'SCOPE_NOT_FOUND',
		});
		const change = iamClients(world.api, reader).principals.createGroup({ parent: project, id: 'x', displayName: 'x' });
		expect(await refusalOf(change)).toMatchObject({ reason: 'CREDENTIAL_SCOPE_EXCEEDED' });
		expect(await refusalOf(create({ permissions: ['scope.get'] }))).toMatchObject({ reason: 'PERMISSION_UNKNOWN' });
	});

	test('whoever makes a key must hold what the account holds', async () => {
		const project = `${world.organization}/projects/train`;
		const admin = await world.member('tenant.admin', project, 'operator');
		const theirs = await admin.principals.createServiceAccount({ parent: project, id: 'low', displayName: 'low' });
		const name = theirs.principal?.name ?? '';
		await admin.keys.createKey({ serviceAccount: name, displayName: 'fine' });
		const up = { parent: project, principalId: theirs.principal?.id ?? '', role: 'tenant.owner' };
		await world.owner.access.createBinding(up);
		const more = admin.keys.createKey({ serviceAccount: name, displayName: 'too much' });
		expect(await refusalOf(more)).toMatchObject({ reason: 'GRANT_EXCEEDS_OWN' });
	});

	test('what the account holds through a group counts too, also when its key rotates', async () => {
		const project = `${world.organization}/projects/train`;
		const admin = await world.member('tenant.admin', project, 'operator');
		const made = await admin.principals.createServiceAccount({
			parent: project,
			id: 'grouped',
			displayName: 'grouped',
		});
		const serviceAccount = made.principal?.name ?? '';
		const { key } = await admin.keys.createKey({ serviceAccount, displayName: 'before' });
		const group = await world.owner.principals.createGroup({ parent: project, id: 'owners', displayName: 'owners' });
		const name = group.principal?.name ?? '';
		await world.owner.principals.addGroupMember({ name, principalId: made.principal?.id ?? '' });
		const role = 'tenant.owner';
		await world.owner.access.createBinding({ parent: project, principalId: group.principal?.id ?? '', role });
		const more = admin.keys.createKey({ serviceAccount, displayName: 'too much' });
		expect(await refusalOf(more)).toMatchObject({ reason: 'GRANT_EXCEEDS_OWN' });
		const rotated = admin.keys.rotateKey({ name: key?.name ?? '', etag: key?.etag ?? '' });
		expect(await refusalOf(rotated)).toMatchObject({ reason: 'GRANT_EXCEEDS_OWN' });
		await world.owner.keys.createKey({ serviceAccount, displayName: 'fine' });
	});

	test('a key works from its networks only', async () => {
		expect(await refusalOf(create({ cidrs: ['10.0.0.0/33'] }))).toMatchObject({ reason: 'CIDR_INVALID' });
		await whoAmI((await create({ cidrs: ['127.0.0.0/8'] })).secret);
		const elsewhere = (await create({ cidrs: ['192.0.2.0/24'] })).secret;
		expect(await refusalOf(whoAmI(elsewhere))).toMatchObject({ reason: 'CREDENTIAL_ADDRESS' });
	});

	test('while a key rotates, two secrets live and no third', async () => {
		const first = await create();
		const name = first.key?.name ?? '';
		const second = await world.owner.keys.rotateKey({ name, etag: first.key?.etag ?? '' });
		await whoAmI(first.secret);
		await whoAmI(second.secret);
		// The first goes on for a day, the second for its own ninety.
		const [old, fresh] =
			second.key?.versions.toSorted((a, b) => Number(a.expiresAt?.seconds) - Number(b.expiresAt?.seconds)) ?? [];
		const lives = [old, fresh].map((one) => Number(one?.expiresAt?.seconds) - Number(fresh?.createdAt?.seconds));
		expect(lives).toEqual([86_400, 90 * 86_400]);
		const week = { seconds: 7n * 86_400n + 1n, nanos: 0 };
		const etag = second.key?.etag ?? '';
		expect(await refusalOf(world.owner.keys.rotateKey({ name, etag, overlap: week }))).toMatchObject({
			reason: 'INVALID_REQUEST',
		});
		expect(await refusalOf(world.owner.keys.rotateKey({ name, etag }))).toMatchObject({ reason: 'KEY_VERSIONS_LIMIT' });
		const overlap = { seconds: 0n, nanos: 0 };
		const third = await world.owner.keys.rotateKey({ name, etag, overlap });
		expect(await refusalOf(whoAmI(first.secret))).toMatchObject({ code: 'Unauthenticated' });
		await whoAmI(third.secret);
		const revoked = await world.owner.keys.revokeKey({ name, reason: 'done' });
		expect(revoked.key?.versions.every(({ state }) => state === 'revoked')).toBe(true);
		expect(await refusalOf(whoAmI(third.secret))).toMatchObject({ code: 'Unauthenticated' });
		await world.owner.keys.revokeKey({ name });
		expect(await refusalOf(world.owner.keys.rotateKey({ name, etag: revoked.key?.etag ?? '' }))).toMatchObject({
			reason: 'KEY_REVOKED',
		});
	});

	test('a key that was found is revoked, and the answer never tells', async () => {
		const { key, secret } = await create();
		const anybody = iamClients(world.api, undefined).keys;
		const wrong = `${secret.slice(0, -7)}x${secret.slice(-6)}`;
		for (const text of ['hello', wrong]) expect(await anybody.reportLeakedKey({ key: text })).toBeDefined();
		await whoAmI(secret);
		await anybody.reportLeakedKey({ key: `  ${secret}\n` });
		expect(await refusalOf(whoAmI(secret))).toMatchObject({ code: 'Unauthenticated' });
		const record = (await world.api.audit()).find(({ action }) => action === 'keys.leaked');
		const id = key?.name.split('/').at(-1) ?? '';
		expect(record?.target).toBe(`keys/${id}`);
		// Whoever answers for it hears of it: by an event, in the record, and in the list of keys.
		const { principal } = await world.owner.principals.getServiceAccount({ name: account });
		const row = await world.api.deps.store.read((tx) => tx.identities.getPrincipal(principal?.id ?? ''));
		expect(record?.detail).toMatchObject({ owner: row?.ownerId });
		const events = await world.api.deps.store.unit((tx) => tx.outbox.take(1000));
		expect(events.filter(({ topic }) => topic === 'iam.key_leaked').map((event) => event.key)).toEqual([id]);
		const { keys } = await world.owner.keys.listKeys({ serviceAccount: account, pageSize: 1000 });
		expect(keys.find(({ name }) => name === key?.name)?.revokedReason).toBe('reported as leaked');
	});

	test('a report of a secret that is over changes nothing and writes nothing', async () => {
		const { key, secret } = await create();
		const name = key?.name ?? '';
		const next = await world.owner.keys.rotateKey({ name, etag: key?.etag ?? '' });
		const id = key?.versions[0]?.id ?? '';
		await world.api.deps.store.unit((tx) => tx.apiKeys.setExpiry(id, world.api.deps.clock.now()));
		const before = (await world.api.audit()).length;
		await iamClients(world.api, undefined).keys.reportLeakedKey({ key: secret });
		expect(await world.api.audit()).toHaveLength(before);
		await whoAmI(next.secret);
	});

	test('is limited only to a scope of its organization that its maker sees', async () => {
		for (const scope of ['organizations/globex/projects/nowhere', 'organizations/acme', 'platform', 'nonsense'])
			expect(await refusalOf(create({ scope })), scope).toMatchObject({
				code: 'FailedPrecondition',
				reason: 'KEY_SCOPE_UNKNOWN',
			});
		const gone = await world.scope(world.organization, 'project', 'gone');
		await create({ scope: gone.name });
		await world.api.deps.store.unit(underPolicy((tx) => tx.scopes.markDeleted('/globex/p.gone/')));
		expect(await refusalOf(create({ scope: gone.name }))).toMatchObject({ reason: 'KEY_SCOPE_UNKNOWN' });
		// Nor by those who see it still.
		const { keys: asOperator } = world.operator;
		expect(await refusalOf(asOperator.createMyKey({ displayName: 'x', scope: gone.name }))).toMatchObject({
			reason: 'KEY_SCOPE_UNKNOWN',
		});
		// Whoever belongs to two limits the key of one's account to nothing of the other.
		const both = await world.member('tenant.owner', world.organization, 'operator');
		const there = bindingRow('key-of-both', both.id, { role: 'tenant.owner', scope: 'organizations/acme' });
		await world.api.deps.store.unit((tx) => tx.access.insertBinding(there));
		const limited = (scope: string) => both.keys.createKey({ serviceAccount: account, displayName: 'x', scope });
		await limited(world.organization);
		expect(await refusalOf(limited('organizations/acme'))).toMatchObject({ reason: 'KEY_SCOPE_UNKNOWN' });
		// Of a part of it one limits a key to nothing in another part.
		const [part, other] = [
			await world.scope(world.organization, 'project', 'part'),
			await world.scope(world.organization, 'project', 'other-part'),
		];
		await world.owner.principals.createServiceAccount({ parent: part.name, id: 'part-ci', displayName: 'CI' });
		const admin = await world.member('tenant.admin', part.name, 'operator');
		const inPart = (scope: string) =>
			admin.keys.createKey({ serviceAccount: `${part.name}/serviceAccounts/part-ci`, displayName: 'x', scope });
		await inPart(part.name);
		expect(await refusalOf(inPart(other.name))).toMatchObject({ reason: 'KEY_SCOPE_UNKNOWN' });
	});

	test('keys of different kinds fail on each other’s surfaces', async () => {
		const { secret } = await create();
		const asPerson = secret.replace('gpu_sk_', 'gpu_uk_');
		expect(await refusalOf(whoAmI(asPerson))).toMatchObject({ code: 'Unauthenticated' });
		const join = await world.api.client(TokenService, world.api.operatorKey).createToken({});
		expect(join.joinToken).toMatch(/^gpu_jt_/);
		expect(await refusalOf(whoAmI(join.joinToken))).toMatchObject({
			code: 'Unauthenticated',
			message: expect.stringContaining('this is a join token, which enrolls one host and calls nothing'),
		});
		expect(await refusalOf(whoAmI('gpu_inv_abc'))).toMatchObject({ code: 'Unauthenticated' });
	});

	test('when a key was last used is written later, with from where', async () => {
		const { key, secret } = await create();
		await whoAmI(secret);
		await world.api.uses.flush();
		const { keys } = await world.owner.keys.listKeys({ serviceAccount: account, pageSize: 1000 });
		const [version] = keys.find(({ name }) => name === key?.name)?.versions ?? [];
		expect(version).toMatchObject({ lastUsedFrom: '127.0.0.1', state: 'live' });
		expect(version?.lastUsedAt).toBeDefined();
	});
});

describe('keys of people', () => {
	test('are made by people: a service account makes none of its own', async () => {
		const { secret } = await create();
		const own = iamClients(world.api, secret).keys.createMyKey({ displayName: 'own' });
		// It can't step up, which is asked first; nor could it then.
		expect(await refusalOf(own)).toMatchObject({ reason: 'STEP_UP_REQUIRED' });
	});

	test('one’s own key does no more than its limits, nor do keys made with it', async () => {
		const made = await world.owner.keys.createMyKey({
			displayName: 'laptop',
			permissions: ['scopes.get', 'roles.get'],
		});
		expect(made.secret).toMatch(/^gpu_uk_test_/);
		await scopes(made.secret).getScope({ name: world.organization });
		const own = iamClients(world.api, made.secret);
		const more = await own.keys.createMyKey({ displayName: 'more' });
		expect(more.key?.permissions).toEqual(['scopes.get', 'roles.get']);
		const wider = own.keys.createMyKey({ displayName: 'wider', permissions: ['tasks.create'] });
		expect(await refusalOf(wider)).toMatchObject({ reason: 'GRANT_EXCEEDS_OWN' });
		const grant = own.access.createBinding({
			parent: world.organization,
			principalId: world.ownerId,
			role: 'tenant.viewer',
		});
		expect(await refusalOf(grant)).toMatchObject({ reason: 'CREDENTIAL_SCOPE_EXCEEDED' });
		const { keys } = await world.owner.keys.listMyKeys({});
		expect(keys.map(({ displayName }) => displayName)).toEqual(['laptop', 'more']);
		const keyId = made.key?.name ?? '';
		const next = await world.owner.keys.rotateMyKey({ keyId, etag: made.key?.etag ?? '' });
		await whoAmI(next.secret);
		await world.owner.keys.revokeMyKey({ keyId });
		expect(await refusalOf(whoAmI(next.secret))).toMatchObject({ code: 'Unauthenticated' });
		const { keys: keysOfOthers } = iamClients(world.api, world.api.operatorKey);
		expect(await refusalOf(keysOfOthers.revokeMyKey({ keyId }))).toMatchObject({ code: 'NotFound' });
	});

	test('a key makes and rotates none that reaches further or lasts longer than itself', async () => {
		const { keys } = world.owner;
		const project = `${world.organization}/projects/train`;
		const limits = { permissions: ['scopes.get'], scope: world.organization, cidrs: ['127.0.0.0/8'] };
		const low = await keys.createMyKey({ displayName: 'low', ...limits, ttl: { seconds: 600n, nanos: 0 } });
		const lowEnd = low.key?.versions[0]?.expiresAt;
		const own = iamClients(world.api, low.secret).keys;
		const wider = [
			{ ...limits, permissions: [] },
			{ ...limits, permissions: ['scopes.get', 'roles.get'] },
			{ ...limits, scope: '' },
			{ ...limits, cidrs: [] },
			{ ...limits, cidrs: ['127.0.0.0/8', '0.0.0.0/0'] },
		];
		for (const reach of wider) {
			const { key } = await keys.createMyKey({ displayName: 'wider', ...reach });
			const rotated = own.rotateMyKey({ keyId: key?.name ?? '', etag: key?.etag ?? '' });
			expect(await refusalOf(rotated), JSON.stringify(reach)).toMatchObject({ reason: 'GRANT_EXCEEDS_OWN' });
		}
		for (const reach of [{ scope: 'platform' }, { cidrs: ['0.0.0.0/0'] }])
			expect(await refusalOf(own.createMyKey({ displayName: 'x', ...reach }))).toMatchObject({
				reason: reach.scope === undefined ? 'GRANT_EXCEEDS_OWN' : 'KEY_SCOPE_UNKNOWN',
			});
		const part = await own.createMyKey({ displayName: 'part', scope: project, cidrs: ['127.0.0.1/32'] });
		expect(part.key).toMatchObject({ permissions: ['scopes.get'], scope: project, cidrs: ['127.0.0.1/32'] });
		expect(part.key?.versions[0]?.expiresAt).toEqual(lowEnd);
		const next = await own.rotateMyKey({ keyId: low.key?.name ?? '', etag: low.key?.etag ?? '' });
		expect(next.key?.versions.map(({ expiresAt }) => expiresAt)).toEqual([lowEnd, lowEnd]);
		await whoAmI(next.secret);
	});

	test('a key of little reach revokes itself, and none that reaches further', async () => {
		const { keys } = world.owner;
		const scope = world.organization;
		const wide = await keys.createMyKey({ displayName: 'wide' });
		const narrow = await keys.createMyKey({ displayName: 'narrow', permissions: ['scopes.get'], scope });
		const like = await keys.createMyKey({ displayName: 'like', permissions: ['scopes.get'], scope });
		const found = iamClients(world.api, narrow.secret).keys;
		const before = (await world.api.audit()).length;
		expect(await refusalOf(found.revokeMyKey({ keyId: wide.key?.name ?? '' }))).toMatchObject({
			code: 'PermissionDenied',
			reason: 'GRANT_EXCEEDS_OWN',
		});
		expect((await world.api.audit()).slice(before)).toMatchObject([{ result: 'denied', reason: 'GRANT_EXCEEDS_OWN' }]);
		await whoAmI(wide.secret);
		await found.revokeMyKey({ keyId: like.key?.name ?? '' });
		await found.revokeMyKey({ keyId: narrow.key?.name ?? '' });
		expect(await refusalOf(whoAmI(narrow.secret))).toMatchObject({ code: 'Unauthenticated' });
		await iamClients(world.api, wide.secret).keys.revokeMyKey({ keyId: wide.key?.name ?? '' });
	});
});
