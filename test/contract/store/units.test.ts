import { expect, test } from 'vitest';
import type { Store, Tx } from '../../../control-plane/store/port/store.ts';
import type { Plan } from '../../../control-plane/store/port/unit.ts';
import { nodeRow } from './rows.ts';
import { eachStore } from './stores.ts';

eachStore('units', (kind) => {
	test('a unit that throws leaves nothing behind, and those beside it stay', async () => {
		await using world = await kind.create();
		const { store } = world;
		const fail = new Error('the plan changed its mind');
		const results = await Promise.allSettled([
			store.unit((tx) => tx.nodes.insert(nodeRow('a'))),
			store.unit(function* (tx) {
				yield* tx.nodes.insert(nodeRow('b'));
				throw fail;
			}),
			store.unit((tx) => tx.nodes.insert(nodeRow('c'))),
		]);
		expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
		expect(results[1]).toMatchObject({ reason: fail });
		const ids = await world.raw('SELECT id FROM nodes ORDER BY id');
		expect(ids.map(({ id }) => id)).toEqual(['a', 'c']);
	});

	test('a failed statement ends its unit: the plan can’t catch it, its finally blocks run', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit((tx) => tx.nodes.insert(nodeRow('a')));
		const steps: string[] = [];
		const plan = function* (tx: Tx): Plan<void> {
			yield* tx.nodes.insert(nodeRow('b'));
			try {
				yield* tx.nodes.insert(nodeRow('a'));
				steps.push('went on');
			} catch {
				steps.push('caught');
			} finally {
				steps.push('finally');
			}
		};
		await expect(store.unit(plan)).rejects.toMatchObject({ code: 'ALREADY_EXISTS', reason: 'ALREADY_EXISTS' });
		expect(steps).toEqual(['finally']);
		expect(await store.read((tx) => tx.nodes.get('b'))).toBeUndefined();
	});

	test('a unit sees its own writes and a read sees committed ones', async () => {
		await using world = await kind.create();
		const { store } = world;
		const seen = await store.unit(function* (tx) {
			yield* tx.nodes.insert(nodeRow('a'));
			return yield* tx.nodes.get('a');
		});
		expect(seen?.id).toBe('a');
		expect((await store.read((tx) => tx.nodes.get('a')))?.id).toBe('a');
	});

	test('a plan given to read may not write', async () => {
		await using world = await kind.create();
		await expect(world.store.read((tx) => tx.nodes.insert(nodeRow('a')))).rejects.toThrow();
		expect(await world.raw('SELECT id FROM nodes')).toEqual([]);
		// And the store still works.
		await world.store.unit((tx) => tx.nodes.insert(nodeRow('a')));
	});

	test('units that read a row and write what they made of it don’t lose each other’s change', async () => {
		await using world = await kind.create();
		const other = kind.dialect === 'postgres' ? await world.open() : world.store;
		await world.store.unit((tx) => tx.nodes.insert(nodeRow('a', { recoveries: 0 })));
		const increment = (store: Store) =>
			store.unit(function* (tx) {
				const recoveries = ((yield* tx.nodes.get('a'))?.recoveries ?? 0) + 1;
				yield* tx.nodes.update('a', { recoveries });
			});
		const stores = Array.from({ length: 40 }, (_, index) => (index % 2 === 0 ? world.store : other));
		await Promise.all(stores.map(increment));
		expect((await world.store.read((tx) => tx.nodes.get('a')))?.recoveries).toBe(40);
	});

	test('units that meet in a deadlock are run again', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(function* (tx) {
			yield* tx.nodes.insert(nodeRow('a'));
			yield* tx.nodes.insert(nodeRow('b'));
		});
		const touch = (first: string, second: string) =>
			store.unit(function* (tx) {
				for (const id of [first, second]) {
					const node = yield* tx.nodes.get(id);
					yield* tx.nodes.update(id, { recoveries: (node?.recoveries ?? 0) + 1 });
				}
			});
		await Promise.all(Array.from({ length: 4 }, (_, index) => (index % 2 === 0 ? touch('a', 'b') : touch('b', 'a'))));
		expect((await store.read((tx) => tx.nodes.get('a')))?.recoveries).toBe(4);
		expect((await store.read((tx) => tx.nodes.get('b')))?.recoveries).toBe(4);
	});

	test('a condition over many rows holds in a serializable unit', async () => {
		await using world = await kind.create();
		const { store } = world;
		const insertIfAlone = (id: string) =>
			store.unit(
				function* (tx) {
					if ((yield* tx.nodes.count()) === 0) yield* tx.nodes.insert(nodeRow(id));
				},
				{ isolation: 'serializable' },
			);
		await Promise.all(['a', 'b', 'c', 'd'].map(insertIfAlone));
		expect(await world.raw('SELECT id FROM nodes')).toHaveLength(1);
	});

	test('numbers past 2^53 and fractions are refused before they are stored', async () => {
		await using world = await kind.create();
		for (const epoch of [2 ** 53, 1.5, Number.NaN]) {
			await expect(world.store.unit((tx) => tx.nodes.insert(nodeRow('a', { epoch })))).rejects.toThrow('2^53');
		}
		await world.store.unit((tx) => tx.nodes.insert(nodeRow('a', { epoch: 2 ** 53 - 1 })));
		expect((await world.store.read((tx) => tx.nodes.get('a')))?.epoch).toBe(2 ** 53 - 1);
	});

	test('text that PostgreSQL can’t hold is refused by both', async () => {
		await using world = await kind.create();
		const insert = () => world.store.unit((tx) => tx.nodes.insert(nodeRow('a', { hostname: 'a\0b' })));
		await expect(insert()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
	});

	test('it can tell that it works and what time it is', async () => {
		await using world = await kind.create();
		await world.store.check();
		const first = await world.store.now();
		expect(await world.store.now()).toBeGreaterThanOrEqual(first);
	});

	test('a closed store says so', async () => {
		await using world = await kind.create();
		await world.store[Symbol.asyncDispose]();
		const reason = { reason: 'STORE_UNAVAILABLE' };
		await expect(world.store.unit((tx) => tx.nodes.insert(nodeRow('a')))).rejects.toMatchObject(reason);
		await expect(world.store.read((tx) => tx.nodes.count())).rejects.toMatchObject(reason);
		await expect(world.store.check()).rejects.toMatchObject(reason);
		await world.store[Symbol.asyncDispose]();
	});
});
