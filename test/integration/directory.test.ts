import { afterAll, beforeAll, expect, test } from 'vitest';
import { DirectoryCheck } from '../../control-plane/app/login/check-directory.ts';
import type { Directory } from '../../control-plane/app/login/directory.ts';
import { DirectoryReconciler } from '../../control-plane/reconcilers/directory.ts';
import { GpuaasError } from '../../kit/error.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { bindingRow, browserSessionRow, principalRow, userIdentityRow } from '../contract/store/rows.ts';
import { eventually } from '../eventually.ts';
import { ApiWorld } from './api-world.ts';
import { underPolicy } from './lock-order.ts';
import { refusalOf } from './refusal.ts';

const ISSUER = 'https://id.example/realms/gpuaas';
const OTHER = 'https://other.example/realms/gpuaas';

let world: ApiWorld;
beforeAll(async () => {
	world = await ApiWorld.start();
});
afterAll(() => world[Symbol.asyncDispose]());

/** Answers by subject; what isn't named is active. */
class ToldDirectory implements Directory {
	readonly issuers: readonly string[];
	readonly downIssuers = new Set<string>();
	readonly told = new Map<string, 'disabled' | 'gone' | 'down'>();
	readonly asked: string[] = [];

	constructor(issuers: readonly string[] = [ISSUER]) {
		this.issuers = issuers;
	}

	async statusOf(issuer: string, subject: string): Promise<'active' | 'disabled' | 'gone'> {
		this.asked.push(subject);
		const answer = this.downIssuers.has(issuer) ? 'down' : (this.told.get(subject) ?? 'active');
		if (answer !== 'down') return answer;
		throw new GpuaasError({ code: 'UNAVAILABLE', reason: 'ISSUER_UNAVAILABLE', message: 'x' });
	}
}

/** Answers about the first and then no more; lets go of whoever gives up. */
class HangingDirectory implements Directory {
	readonly issuers: readonly string[];
	readonly asked: string[] = [];

	constructor(issuer: string) {
		this.issuers = [issuer];
	}

	statusOf(_issuer: string, subject: string, signal?: AbortSignal): Promise<'active'> {
		this.asked.push(subject);
		if (this.asked.length === 1) return Promise.resolve('active');
		if (signal?.aborted === true) return Promise.reject(new Error('cut'));
		return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(new Error('cut'))));
	}
}

async function people(prefix: string, count: number, issuer = ISSUER): Promise<readonly string[]> {
	const ids = Array.from({ length: count }, (_, index) => `${prefix}-${String(index).padStart(3, '0')}`);
	await world.deps.store.unit(function* (tx) {
		for (const id of ids) {
			yield* tx.identities.insertPrincipal(principalRow(id));
			yield* tx.identities.insertUserIdentity(userIdentityRow(issuer, id, id));
		}
	});
	return ids;
}

const principal = (id: string) => world.deps.store.read((tx) => tx.identities.getPrincipal(id));
const whoAmI = (key: string) => world.client(SystemService, key).whoAmI({});

test('who was disabled loses keys, sessions and tokens in one unit with its record; everybody is asked in turn', async () => {
	const ids = await people('a', 203);
	const [leaver = '', stayer = ''] = ids;
	const keys = { leaver: await world.addKey(leaver), stayer: await world.addKey(stayer) };
	await world.deps.store.unit((tx) =>
		tx.browserSessions.insert(browserSessionRow('session', leaver, { issuer: ISSUER, subject: leaver })),
	);
	const directory = new ToldDirectory();
	const check = new DirectoryCheck({ ...world.deps, directory });
	directory.told.set(leaver, 'disabled');
	const before = (await world.audit()).length;
	// Nobody is locked on one answer.
	expect(await check.look()).toBe(0);
	expect(await lookAll(check, directory)).toBe(1);
	expect((await world.audit()).slice(before)).toMatchObject([
		{
			action: 'users.suspend',
			target: `users/${leaver}`,
			detail: { why: 'disabled at the provider', browser_sessions: 1 },
		},
	]);
	expect(await refusalOf(whoAmI(keys.leaver))).toMatchObject({ code: 'Unauthenticated' });
	await whoAmI(keys.stayer);
	// Also after a person is let in again, whatever they had before stays ended.
	await world.deps.store.unit(underPolicy((tx) => tx.identities.updatePrincipal(leaver, { disabledAtMs: null })));
	expect(await refusalOf(whoAmI(keys.leaver))).toMatchObject({ code: 'Unauthenticated' });
	const ended = await world.deps.store.read(function* (tx) {
		return {
			session: yield* tx.browserSessions.get('session'),
			revokedAtMs: yield* tx.logins.revokedAt(ISSUER, leaver, 'none'),
		};
	});
	expect(ended.session?.endedAtMs).not.toBeNull();
	expect(ended.revokedAtMs).toBeDefined();
	// The rest, and on from the beginning: a look is never at a few only.
	directory.told.delete(leaver);
	const rounds = new Set<string>();
	for (let look = 0; look < 2; look += 1) {
		directory.asked.length = 0;
		await check.look();
		expect(directory.asked).toHaveLength(200);
		for (const subject of directory.asked) rounds.add(subject);
	}
	expect(rounds.size).toBe(203);
});

/** Two looks: as many as it takes to ask about everybody once more. */
async function lookAll(check: DirectoryCheck, directory: ToldDirectory): Promise<number> {
	directory.asked.length = 0;
	const locked = (await check.look()) + (await check.look());
	expect(new Set(directory.asked).size).toBe(203);
	return locked;
}

test('whoever can’t be asked about, and an issuer that is down, keep nobody else from being looked at', async () => {
	const [down = '', leaver = ''] = await people('c', 6, OTHER);
	const directory = new ToldDirectory([ISSUER, OTHER]);
	directory.downIssuers.add(ISSUER);
	directory.told.set(down, 'down');
	directory.told.set(leaver, 'gone');
	const check = new DirectoryCheck({ ...world.deps, directory });
	expect(await check.look()).toBe(0);
	expect(await check.look()).toBe(1);
	expect((await principal(leaver))?.disabledReason).toBe('no longer known to the provider');
	expect((await principal(down))?.disabledAtMs).toBeNull();
});

test('a directory that shows a part of its people no longer locks none of them; whom it says is disabled, it does', async () => {
	const issuer = 'https://partial.example/realms/x';
	const ids = await people('p', 60, issuer);
	const [disabled = '', gone = ''] = ids;
	const keys = { disabled: await world.addKey(disabled), gone: await world.addKey(gone) };
	const directory = new ToldDirectory([issuer]);
	const check = new DirectoryCheck({ ...world.deps, directory });
	for (const id of ids.slice(1, 8)) directory.told.set(id, 'gone');
	directory.told.set(disabled, 'disabled');
	expect([await check.look(), await check.look(), await check.look()]).toEqual([0, 1, 0]);
	expect((await principal(disabled))?.disabledAtMs).not.toBeNull();
	await whoAmI(keys.gone);
	// A tenth is believed; the keys come back with the person, those of whom was disabled don't.
	directory.told.delete(ids[7] ?? '');
	directory.told.delete(ids[6] ?? '');
	expect([await check.look(), await check.look()]).toEqual([0, 5]);
	expect(await refusalOf(whoAmI(keys.gone))).toMatchObject({ code: 'Unauthenticated' });
	for (const id of [disabled, gone])
		await world.deps.store.unit(underPolicy((tx) => tx.identities.updatePrincipal(id, { disabledAtMs: null })));
	await whoAmI(keys.gone);
	expect(await refusalOf(whoAmI(keys.disabled))).toMatchObject({ code: 'Unauthenticated' });
});

test('a directory that has lost all or most of its people locks nobody, however few they are', async () => {
	const ids = await people('d', 3, 'https://three.example/realms/x');
	const directory = new ToldDirectory(['https://three.example/realms/x']);
	const check = new DirectoryCheck({ ...world.deps, directory });
	for (const id of ids) directory.told.set(id, 'gone');
	for (let look = 0; look < 3; look += 1) expect(await check.look()).toBe(0);
	// One of them is believed, once a second look says the same.
	for (const id of ids.slice(1)) directory.told.delete(id);
	expect(await check.look()).toBe(0);
	expect(await check.look()).toBe(1);
	const many = await people('e', 12, 'https://twelve.example/realms/x');
	const most = new ToldDirectory(['https://twelve.example/realms/x']);
	const other = new DirectoryCheck({ ...world.deps, directory: most });
	for (const why of ['gone', 'disabled'] as const) {
		for (const id of many.slice(0, 7)) most.told.set(id, why);
		for (let look = 0; look < 3; look += 1) expect(await other.look(), why).toBe(0);
	}
	// Back in between: the first answer counts no more.
	most.told.clear();
	most.told.set(many[0] ?? '', 'disabled');
	await other.look();
	most.told.clear();
	await other.look();
	most.told.set(many[0] ?? '', 'disabled');
	expect(await other.look()).toBe(0);
});

test('the last operator of the platform is not locked, whatever a directory says', async () => {
	const issuer = 'https://operators.example/realms/x';
	const [first = '', second = ''] = await people('f', 2, issuer);
	await people('g', 2, issuer);
	await world.deps.store.unit(function* (tx) {
		yield* tx.access.insertBinding(bindingRow('f-1', first, { role: 'platform.operator', scope: 'platform' }));
		yield* tx.access.insertBinding(bindingRow('f-2', second, { role: 'platform.operator', scope: 'platform' }));
		yield* tx.identities.updatePrincipal('bootstrap-operator', { disabledAtMs: 1 });
	});
	const directory = new ToldDirectory([issuer]);
	const check = new DirectoryCheck({ ...world.deps, directory });
	for (const id of [first, second]) directory.told.set(id, 'disabled');
	for (let look = 0; look < 3; look += 1) await check.look();
	const open = [await principal(first), await principal(second)].filter((row) => row?.disabledAtMs === null);
	expect(open).toHaveLength(1);
});

test('a directory that answers nobody is not asked on in that look, and the next look begins behind those', async () => {
	const issuer = 'https://silent.example/realms/x';
	const ids = await people('s', 12, issuer);
	const directory = new ToldDirectory([issuer]);
	directory.downIssuers.add(issuer);
	const check = new DirectoryCheck({ ...world.deps, directory });
	await check.look();
	expect(directory.asked).toEqual(ids.slice(0, 4));
	await check.look();
	expect(directory.asked).toEqual(ids.slice(0, 8));
	// Four about whom it never answers keep nobody behind them from being looked at.
	directory.downIssuers.clear();
	for (const id of ids.slice(0, 4)) directory.told.set(id, 'down');
	directory.told.set(ids[4] ?? '', 'disabled');
	for (let look = 0; look < 4; look += 1) await check.look();
	expect((await principal(ids[4] ?? ''))?.disabledAtMs).not.toBeNull();
});

test('a control plane that stops waits for no directory', async () => {
	const issuer = 'https://hanging.example/realms/x';
	const ids = await people('h', 12, issuer);
	const directory = new HangingDirectory(issuer);
	const deps = { ...world.deps, replicaId: 'stopping', directory, clock: new VirtualClock() };
	const reconciler = new DirectoryReconciler(deps);
	await eventually('four are asked about', () => directory.asked.length === 4);
	await reconciler[Symbol.asyncDispose]();
	expect(directory.asked).toEqual(ids.slice(0, 4));
});

test('a control plane that stops leaves the look to another one at once', async () => {
	const { store } = world.deps;
	const lookOf = (replicaId: string) =>
		new DirectoryReconciler({ ...world.deps, replicaId, directory: new ToldDirectory(), clock: new VirtualClock() });
	const take = async (replicaId: string) => {
		const nowMs = await store.now();
		return await store.unit((tx) => tx.leases.acquire('directory', replicaId, nowMs, nowMs + 1000));
	};
	const first = lookOf('one');
	await first.once();
	expect(await take('two')).toBe(false);
	await first[Symbol.asyncDispose]();
	expect(await take('two')).toBe(true);
});
