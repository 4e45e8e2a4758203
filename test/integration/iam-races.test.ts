import { create } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { approvalDigest } from '../../control-plane/app/approvals/digest.ts';
import { ROOM_OF } from '../../control-plane/app/iam/room.ts';
import { openStore } from '../../control-plane/store/open.ts';
import type { Tx } from '../../control-plane/store/port/store.ts';
import type { Plan } from '../../control-plane/store/port/unit.ts';
import { present } from '../../kit/assert.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { ScopeKind } from '../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { LoginService } from '../../proto/gen/gpuaas/login/v1/login_pb.ts';
import { QuotaKind, QuotaService } from '../../proto/gen/gpuaas/quota/v1/quota_pb.ts';
import { CreateTokenRequestSchema, TokenService } from '../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { credentialRow, principalRow } from '../contract/store/rows.ts';
import { PostgresServer } from '../fakes/postgres.ts';
import { NodeOidc } from '../providers/node-oidc.ts';
import { iamClients, idOf } from './iam-world.ts';
import { LoginWorld } from './login-world.ts';
import { refusalOf } from './refusal.ts';

/**
 * Two calls at once of which only one may succeed, through the API, on both stores: exactly one wins, the other is refused
 * for its reason, and what must hold afterwards holds. Several rounds each: on PostgreSQL their transactions overlap.
 */
const ROUNDS = 6;
let provider: NodeOidc;
beforeAll(async () => {
	provider = await NodeOidc.start();
});
afterAll(() => provider?.[Symbol.asyncDispose]());

describe.each(['sqlite', 'postgres'] as const)('at once on %s', (dialect) => {
	let server: PostgresServer | undefined;
	let world: LoginWorld;
	beforeAll(async () => {
		if (dialect === 'sqlite') {
			world = await LoginWorld.start(provider);
			return;
		}
		server = await PostgresServer.start();
		const url = await server.createDatabase();
		world = await LoginWorld.start(provider, 300_000, [], { openStore: (deps) => openStore(url, deps) });
	});
	afterAll(async () => {
		await world?.[Symbol.asyncDispose]();
		await server?.[Symbol.asyncDispose]();
	});

	const operator = () => iamClients(world.api, world.api.operatorKey);
	const store = () => world.api.deps.store;

	/** Both at once; the reason of the one that lost. */
	async function oneWins(round: number, calls: readonly (() => Promise<unknown>)[]): Promise<string> {
		const ended = await Promise.allSettled(calls.map((call) => call()));
		const lost = ended.filter((one) => one.status === 'rejected');
		expect(lost, `round ${round}: one of ${calls.length} is refused`).toHaveLength(calls.length - 1);
		return (await refusalOf(Promise.reject(lost[0]?.reason))).reason ?? '';
	}

	async function organization(id: string): Promise<{ readonly parent: string; readonly ownerKey: string }> {
		const parent = `organizations/${id}`;
		return { parent, ownerKey: await world.api.addPrincipal('operator', 'tenant.owner', parent) };
	}

	async function ownersOf(parent: string) {
		const { bindings } = await operator().access.listBindings({ parent, pageSize: 1000 });
		return bindings.filter(({ role }) => role === 'tenant.owner');
	}

	test('the last two owners: a third takes both away, or suspends one, or each the other; one stays', async () => {
		for (let round = 0; round < ROUNDS; round += 1) {
			const { parent, ownerKey } = await organization(`owners-${round}`);
			const suspends = round % 3 === 2;
			const otherKey = await world.api.addPrincipal(suspends ? 'user' : 'operator', 'tenant.owner', parent);
			const before = await ownersOf(parent);
			expect(before).toHaveLength(2);
			const named = (key: string) => {
				const { name, etag } = present(
					before.find(({ principalId }) => principalId === idOf(key)),
					'a binding',
				);
				return { name, etag };
			};
			const isThird = round % 3 !== 1;
			const by = isThird ? operator() : iamClients(world.api, ownerKey);
			const other = isThird ? operator() : iamClients(world.api, otherKey);
			const { principals: users } = await operator().principals.listUsers({ pageSize: 1000 });
			const { id: userId = '', etag = '' } = users.find(({ id }) => id === idOf(otherKey)) ?? {};
			const reason = await oneWins(round, [
				// What is suspended is of the platform, so no row of the organization keeps the two apart.
				() =>
					suspends
						? by.principals.suspendUser({ userId, etag, reason: 'left' })
						: by.access.deleteBinding(named(otherKey)),
				() => other.access.deleteBinding(named(ownerKey)),
			]);
			// Whoever lost their own role first may not even see the binding any more.
			expect(isThird ? ['LAST_OWNER'] : ['LAST_OWNER', 'SCOPE_NOT_FOUND', 'PERMISSION_DENIED']).toContain(reason);
			const left = await ownersOf(parent);
			const people = await store().read((tx) =>
				tx.identities.getPrincipals(left.map((binding) => binding.principalId)),
			);
			expect(
				people.filter(({ disabledAtMs }) => disabledAtMs === null),
				`round ${round}`,
			).toHaveLength(1);
		}
	});

	test('an invitation is accepted once, also by two people who share its address', async () => {
		const { parent } = await organization('inviting');
		const maker = idOf(await world.api.addPrincipal('user', 'tenant.admin', parent));
		for (let round = 0; round < ROUNDS; round += 1) {
			const email = `${dialect}-racers-${round}@example.com`;
			const client = async (name: string) => {
				using person = world.person(await provider.addUser(`${dialect}-${name}-${round}`, { email }));
				return world.api.client(LoginService, (await person.rawTokens()).accessToken);
			};
			// Of one person the role that they have then would refuse the second: of two it is the invitation alone.
			const one = await client('one');
			const other = round % 2 === 0 ? await client('other') : one;
			const invitationToken = await world.invite(email, 'tenant.developer', parent, 60_000, maker);
			const accept = [one, other].map((by) => () => by.acceptInvitation({ invitationToken }));
			expect(await oneWins(round, accept)).toBe('INVITATION_INVALID');
			const { bindings } = await operator().access.listBindings({ parent, pageSize: 1000 });
			const { principals: members } = await operator().principals.listMembers({ parent, pageSize: 1000 });
			const developers = bindings.filter(({ role }) => role === 'tenant.developer');
			expect(new Set(developers.map(({ principalId }) => principalId)).size).toBe(developers.length);
			expect(developers).toHaveLength(round + 1);
			// The owner, the maker, and one for each round.
			expect(members).toHaveLength(round + 3);
		}
	});

	test('an approval is consumed once', async () => {
		const robot = await world.api.addPrincipal('service_account', 'platform.operator', 'platform');
		const method = 'gpuaas.tokens.v1.TokenService/CreateToken';
		for (let round = 0; round < ROUNDS; round += 1) {
			const nodeName = `race-${round}`;
			const request = create(CreateTokenRequestSchema, { nodeName });
			const nowMs = world.api.deps.clock.now();
			const [id, expiresAtMs] = [uuidv7(nowMs, world.api.deps.rng), nowMs + 600_000];
			const bound = { method, input: CreateTokenRequestSchema, request, requesterId: idOf(robot), expiresAtMs };
			await store().unit((tx) =>
				tx.approvals.insert({
					id,
					requesterId: idOf(robot),
					scope: 'platform',
					method,
					digestSha256: approvalDigest(bound),
					summary: '{}',
					reason: 'rack 7',
					state: 'approved',
					createdAtMs: nowMs,
					expiresAtMs,
					decidedBy: 'ada',
					decidedAtMs: nowMs,
					decisionReason: '',
					consumedAtMs: null,
					version: 1,
				}),
			);
			const call = () => world.api.client(TokenService, robot, { 'x-gpuaas-approval': id }).createToken({ nodeName });
			expect(await oneWins(round, [call, call])).toBe('APPROVAL_INVALID');
			const { tokens } = await world.api.client(TokenService, world.api.operatorKey).listTokens({ pageSize: 1000 });
			expect(tokens.filter((token) => token.nodeName === nodeName)).toHaveLength(1);
		}
	});

	test('a key is rotated once, and its last place in the quota is taken once', async () => {
		const { parent, ownerKey } = await organization('keys');
		const owner = iamClients(world.api, ownerKey);
		const quotas = world.api.client(QuotaService, world.api.operatorKey);
		for (let round = 0; round < ROUNDS; round += 1) {
			// In two projects: they share no row but the organization's counter.
			const accounts: string[] = [];
			for (const id of ['one', 'two']) {
				const kind = ScopeKind.PROJECT;
				const { scope } = await owner.scopes.createScope({
					parent,
					kind,
					id: `${id}-${round}`,
					displayName: `${id} ${round}`,
				});
				await owner.principals.createServiceAccount({
					parent: scope?.name ?? '',
					id: `ci-${id}-${round}`,
					displayName: 'ci',
				});
				accounts.push(`${scope?.name}/serviceAccounts/ci-${id}-${round}`);
			}
			const kind = QuotaKind.API_KEYS;
			const { quotas: rows } = await quotas.getQuota({ scope: parent });
			const { etag = '' } = rows.find((row) => row.kind === kind) ?? {};
			await quotas.setQuota({ scope: parent, kind, limit: BigInt(round + 1), etag });
			const makes = accounts.map((serviceAccount) => () => owner.keys.createKey({ serviceAccount, displayName: 'k' }));
			expect(await oneWins(round, makes)).toBe('QUOTA_EXCEEDED');
			const counted = (await quotas.getQuota({ scope: parent })).quotas.find((row) => row.kind === kind);
			expect(counted).toMatchObject({ used: BigInt(round + 1), available: 0n });
			const lists = await Promise.all(accounts.map((serviceAccount) => owner.keys.listKeys({ serviceAccount })));
			const keys = lists.flatMap((list) => list.keys);
			expect(keys).toHaveLength(1);
			const [key] = keys;
			const rotate = () => owner.keys.rotateKey({ name: key?.name ?? '', etag: key?.etag ?? '' });
			expect(await oneWins(round, [rotate, rotate])).toBe('ETAG_MISMATCH');
			const id = key?.name.split('/').at(-1) ?? '';
			const versions = await store().read((tx) => tx.apiKeys.credentialsOf([id]));
			expect(versions.filter(({ revokedAtMs }) => revokedAtMs === null)).toHaveLength(2);
		}
	});

	describe('the last room of an organization, and of a person, is taken once, and is there again when one goes', () => {
		const stored = { createdAtMs: 1, createdBy: 'operator', version: 1 };
		/** Full but for one. */
		const fill = (kind: keyof typeof ROOM_OF, one: (tx: Tx, id: string) => Plan<void>) =>
			store().unit(function* (tx) {
				for (let index = 1; index < ROOM_OF[kind].max; index += 1) yield* one(tx, `full-${index}`);
			});

		test.each([
			['group', 'groups'],
			['service_account', 'serviceAccounts'],
		] as const)('a principal: %s', async (kind, collection) => {
			const { parent, ownerKey } = await organization(`full-of-${kind.replace('_', '-')}`);
			const { principals } = iamClients(world.api, ownerKey);
			const place = { organization: parent.split('/')[1] ?? '', home: parent };
			await fill(kind, (tx, id) =>
				tx.identities.insertPrincipal(principalRow(`${parent}/${id}`, { kind, ...place, name: id })),
			);
			const make = (id: string) => () =>
				kind === 'group'
					? principals.createGroup({ parent, id, displayName: id })
					: principals.createServiceAccount({ parent, id, displayName: id });
			expect(await oneWins(0, [make('a'), make('b')])).toBe(ROOM_OF[kind].reason);
			const name = `${parent}/${collection}/full-1`;
			await (kind === 'group'
				? principals.deleteGroup({ name, etag: 'v1' })
				: principals.deleteServiceAccount({ name, etag: 'v1' }));
			await make('c')();
		});

		test('a custom role of its own', async () => {
			const { parent, ownerKey } = await organization('full-of-roles');
			const { access } = iamClients(world.api, ownerKey);
			const role = { organization: 'full-of-roles', displayName: 'r', permissions: [], deletedAtMs: null, ...stored };
			await fill('role', (tx, id) => tx.access.insertRole({ ...role, name: `${parent}/roles/${id}` }));
			const make = (id: string) => () =>
				access.createRole({ parent, id, displayName: id, permissions: ['scopes.get'] });
			expect(await oneWins(0, [make('a'), make('b')])).toBe('TOO_MANY_ROLES');
			const explained = await access.explain({ method: 'CreateRole', resource: parent });
			expect(explained).toMatchObject({ allowed: false, reason: 'TOO_MANY_ROLES' });
			await access.deleteRole({ name: `${parent}/roles/full-1`, etag: 'v1' });
			await make('c')();
		});

		test('an open invitation', async () => {
			const { parent, ownerKey } = await organization('full-of-guests');
			const { principals } = iamClients(world.api, ownerKey);
			const open = { acceptedAtMs: null, acceptedBy: null, revokedAtMs: null, ...stored };
			const invitation = { organization: 'full-of-guests', email: 'a@b.example', role: 'tenant.viewer', scope: parent };
			const expiresAtMs = world.api.deps.clock.now() + 3_600_000;
			await fill('invitation', (tx, id) => {
				const tokenSha256 = Buffer.from(id.padEnd(32, dialect));
				return tx.invitations.insert({ id, ...invitation, ...open, tokenSha256, expiresAtMs });
			});
			const make = (email: string) => () => principals.createInvitation({ parent, email, role: 'tenant.viewer' });
			expect(await oneWins(0, [make('a@b.example'), make('c@b.example')])).toBe('TOO_MANY_INVITATIONS');
			await principals.revokeInvitation({ name: `${parent}/invitations/full-1` });
			await make('d@b.example')();
		});

		test('a living key of their own, made or brought back by a rotation', async () => {
			const { ownerKey } = await organization('full-of-keys');
			const { keys } = iamClients(world.api, ownerKey);
			const principalId = idOf(ownerKey);
			const key = { principalId, displayName: 'k', permissions: [], scope: '', cidrs: [], revokedAtMs: null };
			const expiresAtMs = world.api.deps.clock.now() + 3_600_000;
			await fill('ownKey', function* (tx, id) {
				yield* tx.apiKeys.insert({ id, ...key, revokedReason: '', ...stored });
				yield* tx.apiKeys.insertCredential(credentialRow(`c-${id}`, principalId, { keyId: id, expiresAtMs }));
			});
			await store().unit(function* (tx) {
				yield* tx.apiKeys.insert({ id: 'ended', ...key, revokedReason: '', ...stored });
				yield* tx.apiKeys.insertCredential(credentialRow('c-ended', principalId, { keyId: 'ended', expiresAtMs: 2 }));
			});
			const make = (displayName: string) => () => keys.createMyKey({ displayName });
			expect(await oneWins(0, [make('a'), make('b')])).toBe('TOO_MANY_KEYS');
			const back = () => keys.rotateMyKey({ keyId: 'ended', etag: 'v1' });
			expect(await refusalOf(back())).toMatchObject({ code: 'ResourceExhausted', reason: 'TOO_MANY_KEYS' });
			// One that lives is rotated also where there is no room.
			await keys.rotateMyKey({ keyId: 'full-2', etag: 'v1' });
			await keys.revokeMyKey({ keyId: 'full-1' });
			await back();
		});
	});

	test('A moves below B while B moves below A: no circle', async () => {
		const { parent, ownerKey } = await organization('tree');
		const { scopes } = iamClients(world.api, ownerKey);
		for (let round = 0; round < ROUNDS; round += 1) {
			const department = async (id: string, above = parent) => {
				const kind = ScopeKind.DEPARTMENT;
				const { scope } = await scopes.createScope({
					parent: above,
					kind,
					id: `${id}-${round}`,
					displayName: `${id} ${round}`,
				});
				return present(scope, 'a scope');
			};
			const [a, b] = [await department('alpha'), await department('beta')];
			// Below what stands in the other: then neither touches a row that the other has.
			const isDeep = round % 2 === 1;
			const [inA, inB] = isDeep ? [await department('in-a', a.name), await department('in-b', b.name)] : [a, b];
			const reason = await oneWins(round, [
				() => scopes.moveScope({ name: a.name, newParent: inB.name, etag: a.etag }),
				() => scopes.moveScope({ name: b.name, newParent: inA.name, etag: b.etag }),
			]);
			expect(reason).toBe('SCOPE_CYCLE');
			const [top] = await store().read((tx) => tx.scopes.getMany([parent]));
			const names = [...new Set([a, b, inA, inB].map(({ name }) => name))];
			const rows = await store().read((tx) => tx.scopes.getMany(names));
			const pathOf = new Map([...rows, present(top, 'the organization')].map(({ name, path }) => [name, path]));
			for (const row of rows) {
				expect(row.path.startsWith(pathOf.get(row.parent ?? '') ?? 'none'), row.path).toBe(true);
				expect(row.path.startsWith(top?.path ?? 'none')).toBe(true);
			}
			expect(rows.filter((row) => row.parent === parent)).toHaveLength(1);
		}
	});
});
