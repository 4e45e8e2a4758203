import { expect, test } from 'vitest';
import type { Visibility } from '../../../control-plane/store/port/scopes.ts';
import { insertProject } from './projects.ts';
import { principalRow } from './rows.ts';
import { eachStore } from './stores.ts';

const ISSUER = 'https://id.example';
const bytes = (fill: number) => new Uint8Array(32).fill(fill);
const revocation = { issuer: ISSUER, subject: '', providerSession: '', expiresAtMs: 1000 };
const attempt = { secretSha256: bytes(1), issuer: ISSUER, sealed: bytes(2), returnTo: '/', usedAtMs: null };
const session = {
	id: 's1',
	secretSha256: bytes(1),
	previousSha256: null,
	principalId: 'ada',
	issuer: ISSUER,
	subject: 'ada-subject',
	providerSession: 'p1',
	acr: '',
	authenticatedAtMs: 1,
	sealedRefresh: bytes(9),
	createdAtMs: 1,
	rotatedAtMs: 1,
	checkedAtMs: 1,
	expiresAtMs: 1000,
	endedAtMs: null,
	endedReason: '',
};
const approval = {
	id: 'a1',
	requesterId: 'ada',
	scope: 'organizations/acme/projects/train',
	method: 'm',
	digestSha256: bytes(3),
	summary: '{}',
	reason: 'why',
	state: 'pending' as const,
	createdAtMs: 1,
	expiresAtMs: 100,
	decidedBy: null,
	decidedAtMs: null,
	decisionReason: '',
	consumedAtMs: null,
	version: 1,
};
const grant = {
	id: 'g1',
	challenge: bytes(4),
	reason: 'provider down',
	peer: '127.0.0.1',
	requestedAtMs: 1,
	challengeExpiresAtMs: 100,
	signers: [],
	secretSha256: null,
	activatedAtMs: null,
	expiresAtMs: null,
	endedAtMs: null,
	version: 1,
};
const page = { afterId: '', limit: 10 };
const NOTHING = { all: false, unowned: false, deleted: false, grants: [], denials: [] } as const;

eachStore('logins', (kind) => {
	test('a domain belongs to one organization at an issuer', async () => {
		await using world = await kind.create();
		const { store } = world;
		const row = {
			id: 'd1',
			issuer: ISSUER,
			domain: 'acme.example',
			organization: 'acme',
			createdAtMs: 1,
			createdBy: 'op',
		};
		await store.unit((tx) => tx.logins.insertDomain(row));
		const taken = store.unit((tx) => tx.logins.insertDomain({ ...row, id: 'd2', organization: 'rival' }));
		await expect(taken).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
		const other = { ...row, id: 'd2', issuer: 'https://other.example' };
		await store.unit((tx) => tx.logins.insertDomain(other));
		expect(await store.read((tx) => tx.logins.getDomain(ISSUER, 'acme.example'))).toEqual(row);
		expect(await store.read((tx) => tx.logins.getDomain('https://third.example', 'acme.example'))).toBeUndefined();
		expect(await store.read((tx) => tx.logins.listDomains(page))).toEqual([row, other]);
		expect(await store.unit((tx) => tx.logins.deleteDomain('d1'))).toEqual(row);
		expect(await store.unit((tx) => tx.logins.deleteDomain('d1'))).toBeUndefined();
	});

	test('a revocation voids a session, or all of a subject, of its issuer alone, and raises the epoch', async () => {
		await using world = await kind.create();
		const { store } = world;
		const before = await store.read((tx) => tx.access.policyEpoch());
		await store.unit(function* (tx) {
			yield* tx.logins.insertRevocation({ ...revocation, id: 'r1', providerSession: 's1', revokedAtMs: 5 });
			yield* tx.logins.insertRevocation({ ...revocation, id: 'r2', subject: 'ada', revokedAtMs: 7 });
		});
		const at = (issuer: string, subject: string, sid: string) =>
			store.read((tx) => tx.logins.revokedAt(issuer, subject, sid));
		expect(await at(ISSUER, 'bob', 's1')).toBe(5);
		expect(await at(ISSUER, 'ada', 's1')).toBe(7);
		expect(await at(ISSUER, 'bob', '')).toBeUndefined();
		expect(await at(ISSUER, '', '')).toBeUndefined();
		expect(await at('https://other.example', 'ada', 's1')).toBeUndefined();
		expect(await store.read((tx) => tx.access.policyEpoch())).toBeGreaterThan(before);
		expect(await store.unit((tx) => tx.logins.sweep(1000))).toBe(0);
		expect(await store.unit((tx) => tx.logins.sweep(1001))).toBe(2);
		expect(await at(ISSUER, 'ada', 's1')).toBeUndefined();
	});

	test('a token id and a login attempt count once', async () => {
		await using world = await kind.create();
		const { store } = world;
		expect(await store.unit((tx) => tx.logins.useTokenId('t', 10))).toBe(true);
		expect(await store.unit((tx) => tx.logins.useTokenId('t', 10))).toBe(false);
		await store.unit((tx) => tx.browserSessions.insertAttempt({ ...attempt, id: 'a', createdAtMs: 1, expiresAtMs: 9 }));
		const isOpen = (id: string) => store.read((tx) => tx.browserSessions.hasAttempt(id));
		expect([await isOpen('a'), await isOpen('b')]).toEqual([true, false]);
		expect(await store.unit((tx) => tx.browserSessions.useAttempt('a', 2))).toMatchObject({ id: 'a', usedAtMs: 2 });
		expect(await store.unit((tx) => tx.browserSessions.useAttempt('a', 3))).toBeUndefined();
		expect(await isOpen('a')).toBe(false);
	});

	test('a session is found by its secret and the one before, until it ends', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(function* (tx) {
			yield* tx.identities.insertPrincipal(principalRow('ada'));
			yield* tx.browserSessions.insert(session);
		});
		const rotate = (from: number, to: number) =>
			store.unit((tx) => tx.browserSessions.rotate('s1', bytes(from), { secretSha256: bytes(to), atMs: 5 }));
		expect(await rotate(1, 2)).toMatchObject({ rotatedAtMs: 5 });
		expect(await rotate(1, 3)).toBeUndefined();
		for (const [secret, found] of [
			[1, 's1'],
			[2, 's1'],
			[3, undefined],
		] as const)
			expect((await store.read((tx) => tx.browserSessions.getBySecret(bytes(secret))))?.id).toBe(found);
		const open = (subject: string, sid: string) =>
			store.read((tx) => tx.browserSessions.openOf(ISSUER, subject, sid)).then((rows) => rows.map(({ id }) => id));
		expect(await open('', 'p1')).toEqual(['s1']);
		expect(await open('ada-subject', '')).toEqual(['s1']);
		expect(await open('somebody', '')).toEqual([]);
		expect(await store.read((tx) => tx.browserSessions.listUnchecked(2, 10))).toHaveLength(1);
		const claim = (ifCheckedAtMs: number) => store.unit((tx) => tx.browserSessions.claimCheck('s1', ifCheckedAtMs, 40));
		expect(await Promise.all([claim(1), claim(1)]).then((both) => both.toSorted())).toEqual([false, true]);
		expect(await claim(1)).toBe(false);
		await store.unit((tx) => tx.browserSessions.checked('s1', bytes(8), 50));
		expect(await store.read((tx) => tx.browserSessions.listUnchecked(2, 10))).toHaveLength(0);
		expect(await store.unit((tx) => tx.browserSessions.end('s1', 'logged out', 60))).toMatchObject({
			sealedRefresh: null,
			endedReason: 'logged out',
		});
		expect(await store.unit((tx) => tx.browserSessions.end('s1', 'again', 61))).toBeUndefined();
		expect(await claim(50)).toBe(false);
		expect(await open('ada-subject', '')).toEqual([]);
		expect(await store.unit((tx) => tx.browserSessions.sweep(61))).toBe(1);
	});

	test('an approval is decided once and consumed once', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(function* (tx) {
			yield* tx.identities.insertPrincipal(principalRow('ada'));
			yield* tx.approvals.insert(approval);
		});
		const decided = { state: 'approved' as const, decidedBy: 'bob', decidedAtMs: 2, decisionReason: 'fine' };
		expect(await store.unit((tx) => tx.approvals.consume('a1', 2))).toBeUndefined();
		expect(await store.read((tx) => tx.approvals.countPending('ada', 99))).toBe(1);
		expect(await store.read((tx) => tx.approvals.countPending('ada', 100))).toBe(0);
		expect(await store.unit((tx) => tx.approvals.decide('a1', decided))).toMatchObject({
			state: 'approved',
			version: 2,
		});
		expect(await store.unit((tx) => tx.approvals.decide('a1', { ...decided, state: 'rejected' }))).toBeUndefined();
		expect(await store.unit((tx) => tx.approvals.consume('a1', 3))).toMatchObject({ consumedAtMs: 3 });
		expect(await store.unit((tx) => tx.approvals.consume('a1', 4))).toBeUndefined();
		await store.unit((tx) => insertProject(tx, 'acme', 'train'));
		const listed = (requesterId: string, visibility: Visibility) =>
			store.read((tx) => tx.approvals.list({ ...page, requesterId, visibility }));
		const below = (grants: string[], denials: string[] = []): Visibility => ({ ...NOTHING, grants, denials });
		expect(await listed('ada', NOTHING)).toHaveLength(1);
		expect(await listed('bob', NOTHING)).toHaveLength(0);
		expect(await listed('bob', { all: true })).toHaveLength(1);
		expect(await listed('bob', below(['/acme/']))).toHaveLength(1);
		expect(await listed('bob', below(['/rival/']))).toHaveLength(0);
		expect(await listed('bob', below(['/'], ['/acme/']))).toHaveLength(0);
		await store.unit((tx) => tx.scopes.markDeleted('/acme/'));
		expect(await listed('bob', below(['/acme/']))).toHaveLength(0);
		expect(await listed('bob', { ...NOTHING, deleted: true, grants: ['/'] })).toHaveLength(1);
	});

	test('a break-glass key is registered once, and a challenge activates once', async () => {
		await using world = await kind.create();
		const { store } = world;
		const key = {
			id: 'k1',
			name: 'safe',
			kind: 'ed25519' as const,
			publicKey: bytes(7),
			rpId: '',
			signCount: 0,
			createdAtMs: 1,
			createdBy: 'op',
			removedAtMs: null,
		};
		await store.unit((tx) => tx.breakGlass.insertKey(key));
		const again = store.unit((tx) => tx.breakGlass.insertKey({ ...key, id: 'k2' }));
		await expect(again).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
		const raise = (to: number) => store.unit((tx) => tx.breakGlass.raiseSignCount('k1', to));
		expect([await raise(4), await raise(4), await raise(3), await raise(0)]).toEqual([true, false, false, false]);
		expect(await store.read((tx) => tx.breakGlass.listKeys(page))).toEqual([{ ...key, signCount: 4 }]);
		expect(await store.unit((tx) => tx.breakGlass.removeKey('k1', 2))).toMatchObject({ removedAtMs: 2 });
		expect(await store.read((tx) => tx.breakGlass.listKeys(page))).toEqual([]);

		await store.unit((tx) => tx.breakGlass.insertGrant(grant));
		const unanswered = (peer: string, nowMs: number) =>
			store.read((tx) => tx.breakGlass.countOpenChallenges(peer, nowMs));
		expect(await unanswered('127.0.0.1', 99)).toBe(1);
		expect(await unanswered('127.0.0.1', 100)).toBe(0);
		expect(await unanswered('127.0.0.2', 99)).toBe(0);
		const to = { signers: ['k1', 'k3'], secretSha256: bytes(5), activatedAtMs: 2, expiresAtMs: 50 };
		expect(await store.unit((tx) => tx.breakGlass.activate('g1', to))).toMatchObject({ ...to, version: 2 });
		expect(await store.unit((tx) => tx.breakGlass.activate('g1', to))).toBeUndefined();
		expect(await store.read((tx) => tx.breakGlass.getGrantBySecret(bytes(5)))).toMatchObject({ id: 'g1' });
		expect(await store.unit((tx) => tx.breakGlass.end('g1', 9))).toMatchObject({ endedAtMs: 9 });
		expect(await store.unit((tx) => tx.breakGlass.end('g1', 9))).toBeUndefined();
		expect(await store.read((tx) => tx.breakGlass.listGrants(page))).toHaveLength(1);

		for (const [id, challengeExpiresAtMs] of [
			['g2', 10],
			['g3', 100],
			['g4', 100],
			['g5', 100],
		] as const)
			await store.unit((tx) => tx.breakGlass.insertGrant({ ...grant, id, challengeExpiresAtMs }));
		const forget = (keep: number) => store.unit((tx) => tx.breakGlass.forgetChallenges(keep, 50));
		expect(await forget(3)).toBe(1);
		expect(await forget(1)).toBe(2);
		expect(await forget(1)).toBe(0);
		const left = await store.read((tx) => tx.breakGlass.listGrants(page));
		expect(left.map(({ id }) => id)).toEqual(['g1', 'g5']);
	});
});
