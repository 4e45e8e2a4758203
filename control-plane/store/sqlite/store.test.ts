import { expect, test } from 'vitest';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import type { Tx } from '../port/store.ts';
import type { Plan } from '../port/unit.ts';
import type { Fault } from './connection.ts';
import { SqliteStore, type SqliteStoreOptions } from './store.ts';

/** One outbox row: the smallest write. */
function* row(tx: Tx, id: string): Plan<string> {
	yield* tx.outbox.append({ id, topic: 't', key: 'k', atMs: 1 });
	return id;
}

/** A store in memory whose commits are made by a virtual clock, and counted. */
class World {
	readonly clock = new VirtualClock();
	readonly store: SqliteStore;
	commits = 0;
	nextFault: Fault | undefined;

	constructor(more: Partial<SqliteStoreOptions> = {}) {
		const fault = (at: 'commit' | 'read') => {
			if (at === 'commit') this.commits += 1;
			const next = this.nextFault;
			this.nextFault = undefined;
			return next;
		};
		this.store = new SqliteStore({ at: { memory: null }, clock: this.clock, fault, ...more });
	}

	/** What becomes of units, without waiting for them. */
	insert(...ids: readonly string[]): string[] {
		const states = ids.map(() => 'pending');
		for (const [index, id] of ids.entries()) {
			this.store
				.unit((tx) => row(tx, id))
				.then(
					(value) => {
						states[index] = value;
					},
					(error: { reason?: string }) => {
						states[index] = error.reason ?? String(error);
					},
				);
		}
		return states;
	}

	/** Lets one commit happen, and those who wait for it hear of it. */
	async commit(): Promise<void> {
		this.clock.advance(0);
		await settled();
	}

	async stored(): Promise<readonly string[]> {
		return await this.store.read(function* () {
			const { rows } = yield { sql: 'select id from outbox order by id', parameters: [] };
			return rows.map(({ id }) => String(id));
		});
	}
}

async function settled(): Promise<void> {
	for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}

test('units that wait share one commit, and none settles before it', async () => {
	const world = new World();
	const states = world.insert('a', 'b', 'c');
	await settled();
	expect([world.commits, ...states]).toEqual([0, 'pending', 'pending', 'pending']);
	await world.commit();
	expect([world.commits, ...states]).toEqual([1, 'a', 'b', 'c']);
});

test('a unit that throws is undone alone and hears of it after the commit', async () => {
	const world = new World();
	const before = world.insert('a');
	const order: string[] = [];
	const failed = world.store
		.unit(function* (tx) {
			yield* row(tx, 'b');
			throw new Error('no');
		})
		.catch((error: Error) => order.push(error.message, `after commit ${world.commits}`));
	const after = world.insert('a', 'c');
	await world.commit();
	await failed;
	expect([...before, ...after]).toEqual(['a', 'ALREADY_EXISTS', 'c']);
	expect(order).toEqual(['no', 'after commit 1']);
	expect(await world.stored()).toEqual(['a', 'c']);
});

test.each([
	['FULL', 'DISK_FULL'],
	['IOERR', 'STORE_UNAVAILABLE'],
] as const)('a commit that fails with %s rejects all of it, and the next one works', async (fault, reason) => {
	const world = new World();
	const states = world.insert('a', 'b');
	const threw = world.store
		.unit(function* () {
			throw new Error('its own error may rest on what was undone');
		})
		.catch((error: { reason?: string }) => error.reason);
	world.nextFault = fault;
	await world.commit();
	expect(states).toEqual([reason, reason]);
	expect(await threw).toBe(reason);
	expect(await world.stored()).toEqual([]);
	const again = world.insert('a');
	await world.commit();
	expect(again).toEqual(['a']);
	world.nextFault = fault;
	await expect(world.stored()).rejects.toMatchObject({ reason });
	expect(await world.stored()).toEqual(['a']);
});

test('a commit has at most so many units, and the rest goes next without a timer', async () => {
	const world = new World({ batchUnitsMax: 2 });
	const states = world.insert('a', 'b', 'c', 'd', 'e');
	await world.commit();
	expect(world.commits).toBe(3);
	expect(states).toEqual(['a', 'b', 'c', 'd', 'e']);
	expect(world.clock.monotonic()).toBe(0);
	expect(world.clock.pending).toBe(0);
});

test('a full queue refuses at once', async () => {
	const world = new World({ queueUnitsMax: 2 });
	const states = world.insert('a', 'b', 'c');
	await settled();
	expect(states).toEqual(['pending', 'pending', 'STORE_UNAVAILABLE']);
	await world.commit();
	expect(states).toEqual(['a', 'b', 'STORE_UNAVAILABLE']);
});

test('a crash keeps what was committed and drops what was not', async () => {
	const world = new World();
	world.insert('a');
	await world.commit();
	const waiting = world.insert('b');
	const memory = world.store.crash();
	await world.commit();
	expect(waiting).toEqual(['pending']);
	const reopened = new World({ at: { memory } });
	expect(await reopened.stored()).toEqual(['a']);
	const next = reopened.insert('b');
	await reopened.commit();
	expect(next).toEqual(['b']);
});

test('closing commits what waits and refuses what comes', async () => {
	const world = new World();
	const states = world.insert('a', 'b');
	await world.store[Symbol.asyncDispose]();
	await settled();
	expect(states).toEqual(['a', 'b']);
	const late = world.insert('c');
	await settled();
	expect(late).toEqual(['STORE_UNAVAILABLE']);
});

test('a database that may not grow says that the disk is full and stays whole', async () => {
	const world = new World({ databaseBytesMax: 1024 * 1024 });
	const reasons = new Set<string>();
	for (let index = 0; index < 40; index += 1) {
		const big = world.store.unit((tx) =>
			tx.outbox.append({ id: `${index}`, topic: 't'.repeat(100_000), key: 'k', atMs: 1 }),
		);
		world.clock.advance(0);
		await big.catch((error: { reason: string }) => reasons.add(error.reason));
	}
	expect([...reasons]).toEqual(['DISK_FULL']);
	const small = world.insert('small');
	await world.commit();
	expect(small).toEqual(['small']);
});

test('a plan inside a unit may not read through the store', async () => {
	const world = new World();
	const inner: Promise<unknown>[] = [];
	const outer = world.store.unit(function* (tx) {
		yield* row(tx, 'a');
		inner.push(world.stored());
	});
	world.clock.advance(0);
	await outer;
	await expect(inner[0]).rejects.toThrow('a read inside a unit');
});

test('time never goes back', async () => {
	const times = [5, 3, 9];
	const clock = Object.assign(new VirtualClock(), { now: () => times.shift() ?? 0 });
	const store = new SqliteStore({ at: { memory: null }, clock: Object.assign(new VirtualClock(), { now: () => 7 }) });
	expect(await store.now()).toBe(7);
	const other = new SqliteStore({ at: { memory: store.crash() }, clock });
	expect([await other.now(), await other.now(), await other.now()]).toEqual([5, 5, 9]);
});
