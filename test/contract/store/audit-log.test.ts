import { expect, test } from 'vitest';
import type { Store } from '../../../control-plane/store/port/store.ts';
import { eachStore } from './stores.ts';

function leafRow(
	id: string,
	more: { action?: string; target?: string; organization?: string; clear?: string | null } = {},
) {
	return {
		id,
		leaf: Buffer.from(`{"id":"${id}"}`),
		clear: null,
		action: 'nodes.cordon',
		target: 'nodes/1',
		organization: null,
		actorIsOwn: null,
		atMs: 5,
		...more,
	};
}

const chainValue = (seq: number) => new Uint8Array(32).fill(seq);

async function append(store: Store, ...ids: readonly string[]): Promise<void> {
	await store.unit(function* (tx) {
		for (const id of ids) yield* tx.audit.append(leafRow(id));
	});
}

async function chain(store: Store, ...rows: readonly (readonly [id: string, seq: number])[]): Promise<void> {
	await store.unit((tx) => tx.audit.chain(rows.map(([id, seq]) => ({ id, seq, chain: chainValue(seq) }))));
}

eachStore('audit log', (kind) => {
	test('a leaf is there from its commit and has its position later', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit((tx) => tx.audit.append(leafRow('a', { clear: '{"peer":1}' })));
		const unchained = await store.read((tx) => tx.audit.listUnchained(10));
		const { leaf, ...rest } = leafRow('a', { clear: '{"peer":1}' });
		expect(unchained).toEqual([{ ...rest, leaf: new Uint8Array(leaf), seq: null, chain: null }]);
		expect(await store.read((tx) => tx.audit.seqOf('a'))).toBeNull();
		expect(await store.read((tx) => tx.audit.seqOf('nobody'))).toBeUndefined();
		expect(await store.read((tx) => tx.audit.last())).toBeUndefined();
		await chain(store, ['a', 1]);
		expect(await store.read((tx) => tx.audit.listUnchained(10))).toEqual([]);
		expect(await store.read((tx) => tx.audit.last())).toEqual({ ...unchained[0], seq: 1, chain: chainValue(1) });
		expect(await store.read((tx) => tx.audit.seqOf('a'))).toBe(1);
	});

	test('a leaf of a unit that was undone is not there', async () => {
		await using world = await kind.create();
		const { store } = world;
		const failed = store.unit(function* (tx) {
			yield* tx.audit.append(leafRow('a'));
			throw new Error('the change failed');
		});
		await expect(failed).rejects.toThrow('the change failed');
		expect(await store.read((tx) => tx.audit.listUnchained(10))).toEqual([]);
	});

	test('positions are given in turn and once', async () => {
		await using world = await kind.create();
		const { store } = world;
		await append(store, 'a', 'b', 'c');
		await expect(chain(store, ['a', 2])).rejects.toThrow();
		await chain(store, ['a', 1], ['b', 2]);
		await expect(chain(store, ['c', 4])).rejects.toThrow();
		await expect(chain(store, ['c', 2])).rejects.toThrow();
		await expect(chain(store, ['b', 3])).rejects.toThrow();
		await expect(chain(store, ['nobody', 3])).rejects.toThrow();
		await chain(store, ['c', 3]);
		expect((await store.read((tx) => tx.audit.list(2, 10))).map(({ id, seq }) => [id, seq])).toEqual([
			['b', 2],
			['c', 3],
		]);
	});

	test('a leaf that commits after a later one is chained all the same', async () => {
		await using world = await kind.create();
		const { store } = world;
		await append(store, 'a', 'b');
		await chain(store, ['b', 1]);
		if (kind.dialect === 'sqlite') return;
		// On PostgreSQL the order of writing isn't the order of commit.
		expect((await store.read((tx) => tx.audit.listUnchained(10))).map(({ id }) => id)).toEqual(['a']);
		await chain(store, ['a', 2]);
	});

	test('records are found by action, by prefix, by target and by organization, in both directions', async () => {
		await using world = await kind.create();
		const { store } = world;
		const actions = ['nodes.cordon', 'nodes.drain', 'nodesx.cordon', 'tasks.create', 'nodes.cordon'];
		await store.unit(function* (tx) {
			for (const [index, action] of actions.entries()) {
				const target = index === 4 ? 'nodes/2' : 'nodes/1';
				const of = ['acme', 'rival', undefined, 'acme'][index];
				const organization = of === undefined ? {} : { organization: of };
				yield* tx.audit.append(leafRow(`a${index}`, { action, target, ...organization }));
			}
		});
		const waiting = (organizations: readonly string[] | null, limit: number, beforeId?: string) =>
			store
				.read((tx) =>
					tx.audit.queryUnchained({
						...{ limit, action: '', target: '', organizations },
						...(beforeId === undefined ? {} : { beforeId }),
					}),
				)
				.then((rows) => rows.map(({ id }) => id));
		// However much of others is newer.
		expect(await waiting(['acme'], 1)).toEqual(['a3']);
		expect(await waiting(['acme'], 9)).toEqual(['a3', 'a0']);
		expect(await waiting(null, 2)).toEqual(['a4', 'a3']);
		expect(await waiting(null, 2, 'a3')).toEqual(['a2', 'a1']);
		expect(await waiting(['acme'], 2, 'a3')).toEqual(['a0']);
		await chain(store, ...actions.map((_, index) => [`a${index}`, index + 1] as const));
		expect(await waiting(null, 9)).toEqual([]);
		const seqs = async (
			more: Partial<Parameters<Parameters<Parameters<Store['read']>[0]>[0]['audit']['query']>[0]>,
		) => {
			const filter = {
				afterSeq: null,
				limit: 10,
				action: '',
				target: '',
				organizations: null,
				newestFirst: false,
				...more,
			};
			return (await store.read((tx) => tx.audit.query(filter))).map(({ seq }) => seq);
		};
		expect(await seqs({})).toEqual([1, 2, 3, 4, 5]);
		expect(await seqs({ newestFirst: true, limit: 2 })).toEqual([5, 4]);
		expect(await seqs({ newestFirst: true, limit: 2, beforeId: 'a3' })).toEqual([3, 2]);
		expect(await seqs({ newestFirst: true, afterSeq: 2, beforeId: 'a3' })).toEqual([1]);
		expect(await seqs({ newestFirst: true, afterSeq: 4, limit: 2 })).toEqual([3, 2]);
		expect(await seqs({ afterSeq: 4 })).toEqual([5]);
		expect(await seqs({ action: 'nodes.' })).toEqual([1, 2, 5]);
		expect(await seqs({ action: 'nodes.cordon' })).toEqual([1, 5]);
		expect(await seqs({ action: 'nodes.cordon', target: 'nodes/2' })).toEqual([5]);
		expect(await seqs({ target: 'nodes/3' })).toEqual([]);
		expect(await seqs({ organizations: ['acme'] })).toEqual([1, 4]);
		expect(await seqs({ organizations: ['acme'], newestFirst: true, limit: 1 })).toEqual([4]);
		expect(await seqs({ organizations: ['rival', 'acme'], action: 'nodes.' })).toEqual([1, 2]);
		expect(await seqs({ organizations: [] })).toEqual([]);
	});

	test('heads are kept by size', async () => {
		await using world = await kind.create();
		const { store } = world;
		expect(await store.read((tx) => tx.audit.lastHead())).toBeUndefined();
		const heads = [1, 5, 9].map((size) => ({ size, note: `note ${size}\n`, atMs: size }));
		for (const head of heads) await store.unit((tx) => tx.audit.putHead(head));
		const again = store.unit((tx) => tx.audit.putHead({ size: 5, note: 'another', atMs: 1 }));
		await expect(again).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
		expect(await store.read((tx) => tx.audit.lastHead())).toEqual(heads[2]);
		expect(await store.read((tx) => tx.audit.listHeads(null, 2, false))).toEqual(heads.slice(0, 2));
		expect(await store.read((tx) => tx.audit.listHeads(5, 2, false))).toEqual(heads.slice(2));
		expect(await store.read((tx) => tx.audit.listHeads(9, 1, true))).toEqual([heads[1]]);
		expect(await store.read((tx) => tx.audit.listHeads(null, 1, true))).toEqual([heads[2]]);
	});

	test('clear text can be erased, and nothing else can be changed or removed', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit((tx) => tx.audit.append(leafRow('a', { clear: '{"peer":1}' })));
		await chain(store, ['a', 1]);
		await store.unit((tx) => tx.audit.putHead({ size: 1, note: 'note', atMs: 1 }));
		const refused = [
			`UPDATE audit_leaves SET action = 'x'`,
			'DELETE FROM audit_leaves',
			'UPDATE audit_chain SET seq = 2',
			'DELETE FROM audit_chain',
			`UPDATE audit_heads SET note = 'x'`,
			'DELETE FROM audit_heads',
			`UPDATE audit_clear SET clear = 'x'`,
			`UPDATE audit_clear SET leaf_id = 'x', clear = NULL`,
			'DELETE FROM audit_clear',
		];
		if (kind.dialect === 'postgres') {
			refused.push('TRUNCATE audit_leaves, audit_chain, audit_clear, audit_pending');
			refused.push('TRUNCATE audit_chain', 'TRUNCATE audit_clear', 'TRUNCATE audit_heads');
		}
		for (const sql of refused) await expect(world.raw(sql), sql).rejects.toThrow('GPUAAS_AUDIT_APPEND_ONLY');
		// REPLACE removes a row without a DELETE: through the store's own connection, which decides whether triggers see that.
		const replaced = ['audit_leaves', 'audit_chain', 'audit_heads', 'audit_clear'].map((table) => ({
			sql: `INSERT OR REPLACE INTO ${table} SELECT * FROM ${table}`,
			parameters: [],
		}));
		for (const statement of kind.dialect === 'sqlite' ? replaced : []) {
			const replacing = store.unit(function* () {
				yield statement;
			});
			await expect(replacing, statement.sql).rejects.toThrow('GPUAAS_AUDIT');
		}
		await store.unit((tx) => tx.audit.eraseClear('a'));
		expect(await store.read((tx) => tx.audit.last())).toMatchObject({ id: 'a', seq: 1, clear: null });
	});
});
