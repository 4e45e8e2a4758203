import { expect, test } from 'vitest';
import type { Store } from '../../../control-plane/store/port/store.ts';
import type { TaskState } from '../../../control-plane/store/port/tasks.ts';
import { assignmentRow, nodeRow, taskRow } from './rows.ts';
import { eachStore } from './stores.ts';

async function withNodes(store: Store, ...ids: readonly string[]): Promise<void> {
	await store.unit(function* (tx) {
		for (const id of ids) yield* tx.nodes.insert(nodeRow(id));
	});
}

eachStore('tasks', (kind) => {
	test('a row comes back as it was put in, and changes only from the states that were named', async () => {
		await using world = await kind.create();
		const { store } = world;
		await withNodes(store, 'n');
		const row = taskRow('t1', 'n', { exitCode: -1, outputComplete: true, message: "it's" });
		await store.unit((tx) => tx.tasks.insert(row));
		expect(await store.read((tx) => tx.tasks.get('t1'))).toEqual(row);
		expect(await store.unit((tx) => tx.tasks.update('t1', { state: 'running' }, ['leased']))).toBeUndefined();
		expect(await store.unit((tx) => tx.tasks.update('t1', { state: 'running' }, []))).toBeUndefined();
		const patch = { state: 'running', startedAtMs: 7, exitCode: null, outputComplete: false } as const;
		expect(await store.unit((tx) => tx.tasks.update('t1', patch, ['leased', 'queued']))).toEqual({ ...row, ...patch });
		expect(await store.unit((tx) => tx.tasks.update('t1', {}, ['running']))).toEqual({ ...row, ...patch });
		expect(await store.unit((tx) => tx.tasks.update('t1', {}, ['queued']))).toBeUndefined();
	});

	test('a claim takes the oldest under rising tokens', async () => {
		await using world = await kind.create();
		const { store } = world;
		await withNodes(store, 'n', 'm');
		await store.unit(function* (tx) {
			for (const id of ['t3', 't1', 't2', 't4']) yield* tx.tasks.insert(taskRow(id, 'n'));
			yield* tx.tasks.insert(taskRow('t0', 'm'));
		});
		const first = await store.unit((tx) => tx.tasks.claim('n', 2, 500));
		expect(first.map(({ id, fencingToken }) => [id, fencingToken])).toEqual([
			['t1', 1],
			['t2', 2],
		]);
		expect(first[0]).toEqual(taskRow('t1', 'n', { state: 'leased', attempt: 1, fencingToken: 1, leaseUntilMs: 500 }));
		await store.unit((tx) => tx.tasks.update('t1', { state: 'queued', leaseUntilMs: null }));
		const second = await store.unit((tx) => tx.tasks.claim('n', 10, 600));
		expect(second.map(({ id, fencingToken, attempt }) => [id, fencingToken, attempt])).toEqual([
			['t1', 3, 2],
			['t3', 4, 1],
			['t4', 5, 1],
		]);
		expect(await store.unit((tx) => tx.tasks.claim('n', 10, 600))).toEqual([]);
		expect(await store.read((tx) => tx.nodes.get('n'))).toMatchObject({ fencingSeq: 5, version: 1 });
	});

	test('claims at once never share a task nor a token', async () => {
		await using world = await kind.create();
		const { store } = world;
		await withNodes(store, 'n');
		await store.unit(function* (tx) {
			for (let index = 0; index < 120; index += 1) yield* tx.tasks.insert(taskRow(`t${1000 + index}`, 'n'));
		});
		// On PostgreSQL a second replica claims too; a SQLite file has one process.
		const other = kind.dialect === 'postgres' ? await world.open() : store;
		const claimed: { id: string; fencingToken: number }[] = [];
		const work = async (from: Store) => {
			for (let round = 0; round < 40; round += 1) {
				claimed.push(...(await from.unit((tx) => tx.tasks.claim('n', 4, 500))));
			}
		};
		await Promise.all([store, other, store, other, store, other].map(work));
		expect(new Set(claimed.map(({ id }) => id)).size).toBe(120);
		expect(claimed).toHaveLength(120);
		expect(new Set(claimed.map(({ fencingToken }) => fencingToken)).size).toBe(120);
	});

	test('lists know the queue, what is open and what is late', async () => {
		await using world = await kind.create();
		const { store } = world;
		await withNodes(store, 'a', 'b', 'c');
		await store.unit(function* (tx) {
			const states: readonly TaskState[] = ['queued', 'leased', 'running', 'cancelling', 'succeeded', 'lost'];
			for (const [index, state] of states.entries()) {
				const ended = state === 'succeeded' || state === 'lost' ? { endedAtMs: 50 } : {};
				yield* tx.tasks.insert(taskRow(`t${index}`, 'a', { state, leaseUntilMs: 90, ...ended }));
			}
			yield* tx.tasks.insert(taskRow('u1', 'c', { queueDeadlineMs: 99 }));
			yield* tx.tasks.insert(taskRow('u2', 'c'));
			yield* tx.tasks.insert(taskRow('v1', 'b', { state: 'leased', leaseUntilMs: 90, acceptedAtMs: 80 }));
		});
		const ids = (rows: readonly { readonly id: string }[]) => rows.map(({ id }) => id);
		expect(await store.read((tx) => tx.tasks.listNodesWithQueued(10))).toEqual(['a', 'c']);
		expect(await store.read((tx) => tx.tasks.listNodesWithQueued(1))).toEqual(['a']);
		expect(await store.read((tx) => tx.tasks.listNodesWithQueued(10, ['b', 'c', 'x']))).toEqual(['c']);
		expect(ids(await store.read((tx) => tx.tasks.listActive('a', 10)))).toEqual(['t1', 't2', 't3']);
		expect(ids(await store.read((tx) => tx.tasks.listActive('a', 2)))).toEqual(['t1', 't2']);
		expect(await store.read((tx) => tx.tasks.countOpen('a'))).toBe(4);
		expect(ids(await store.read((tx) => tx.tasks.listQueueExpired(100, 10)))).toEqual(['u1']);
		expect(ids(await store.read((tx) => tx.tasks.listQueueExpired(101, 10)))).toEqual(['u1', 't0', 'u2']);
		expect(ids(await store.read((tx) => tx.tasks.listLeaseExpired(90, 10)))).toEqual([]);
		expect(ids(await store.read((tx) => tx.tasks.listLeaseExpired(91, 10)))).toEqual(['t1']);
		expect(await store.read((tx) => tx.tasks.countByState())).toEqual({
			queued: 3,
			leased: 2,
			running: 1,
			cancelling: 1,
		});
	});

	test('ended tasks are listed by id between two ids, and open ones never', async () => {
		await using world = await kind.create();
		const { store } = world;
		await withNodes(store, 'n');
		const id = (atMs: number, rest: string) => `${atMs.toString(16).padStart(8, '0')}-0000-7000-8000-${rest}`;
		const [first, second, third, open] = [id(1, 'aaaaaaaaaaaa'), id(1, 'bbbbbbbbbbbb'), id(2, 'a'), id(1, 'c')];
		await store.unit(function* (tx) {
			yield* tx.tasks.insert(taskRow(first, 'n', { state: 'succeeded', endedAtMs: 100 }));
			yield* tx.tasks.insert(taskRow(second, 'n', { state: 'failed', endedAtMs: 200 }));
			yield* tx.tasks.insert(taskRow(third, 'n', { state: 'lost', endedAtMs: 50 }));
			yield* tx.tasks.insert(taskRow(open, 'n', { state: 'running' }));
		});
		const list = (endedBeforeMs: number, afterId: string, beforeId: string, limit = 10) =>
			store.read((tx) => tx.tasks.listEndedBefore(endedBeforeMs, afterId, beforeId, limit));
		expect(await list(1000, '', '00000003-0000')).toEqual([first, second, third]);
		expect(await list(200, '', '00000003-0000')).toEqual([first, third]);
		expect(await list(1000, '', '00000002-0000')).toEqual([first, second]);
		expect(await list(1000, first, '00000003-0000', 1)).toEqual([second]);
	});

	test('pages are newest first and show a project what was created under its assignments', async () => {
		await using world = await kind.create();
		const { store } = world;
		await withNodes(store, 'a', 'b');
		const acme = { assignmentId: 's1', organization: 'acme', project: 'train' };
		await store.unit(function* (tx) {
			yield* tx.assignments.insert(assignmentRow('s1', 'a'));
			yield* tx.tasks.insert(taskRow('t1', 'a', { ...acme, batchId: 'batch' }));
			yield* tx.tasks.insert(taskRow('t2', 'a', { state: 'succeeded', endedAtMs: 1, batchId: 'batch' }));
			yield* tx.tasks.insert(taskRow('t3', 'b', { state: 'running' }));
		});
		const all = { all: true } as const;
		const page = { afterId: '', limit: 10, nodeId: null, states: [], batchId: null, visibility: all };
		const ids = async (more: Partial<Parameters<Store['read']>[0]> & Record<string, unknown>) =>
			(await store.read((tx) => tx.tasks.list({ ...page, ...more }))).map(({ id }) => id);
		expect(await ids({})).toEqual(['t3', 't2', 't1']);
		expect(await ids({ afterId: 't3', limit: 1 })).toEqual(['t2']);
		expect(await ids({ nodeId: 'a' })).toEqual(['t2', 't1']);
		expect(await ids({ states: ['running', 'queued'] })).toEqual(['t3', 't1']);
		expect(await ids({ batchId: 'batch', states: ['succeeded'] })).toEqual(['t2']);
		const projects = [{ organization: 'acme', project: 'train' }];
		expect(await ids({ visibility: { all: false, projects } })).toEqual(['t1']);
		expect(await ids({ visibility: { all: false, projects: [] } })).toEqual([]);
		expect((await store.read((tx) => tx.tasks.listOpenByAssignment('s1', 5))).map(({ id }) => id)).toEqual(['t1']);
	});

	test('documents of an attempt are merged and never emptied', async () => {
		await using world = await kind.create();
		const { store } = world;
		await withNodes(store, 'n');
		await store.unit((tx) => tx.tasks.insert(taskRow('t', 'n')));
		const attempt = { taskId: 't', attempt: 1 };
		await store.unit((tx) => tx.tasks.putDocuments({ ...attempt, envelope: Uint8Array.of(1) }));
		await store.unit((tx) => tx.tasks.putDocuments({ ...attempt, receipt: Uint8Array.of(2), envelope: null }));
		expect(await store.read((tx) => tx.tasks.getDocuments('t', 1))).toEqual({
			...attempt,
			envelope: Uint8Array.of(1),
			receipt: Uint8Array.of(2),
			closing: null,
			nodeCertificate: null,
			signerCertificate: null,
		});
		expect(await store.read((tx) => tx.tasks.getDocuments('t', 2))).toBeUndefined();
	});
});
