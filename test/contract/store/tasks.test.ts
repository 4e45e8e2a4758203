import { expect, test } from 'vitest';
import type { Store } from '../../../control-plane/store/port/store.ts';
import type { ClaimingNode, TaskRow, TaskState } from '../../../control-plane/store/port/tasks.ts';
import { present } from '../../../kit/assert.ts';
import { claimQueued } from './claim-queued.ts';
import { insertProject } from './projects.ts';
import { assignmentRow, nodeRow, taskRow } from './rows.ts';
import { eachStore } from './stores.ts';

const MONTH_MS = 30 * 86_400_000;

async function withNodes(store: Store, ...ids: readonly string[]): Promise<void> {
	await store.unit(function* (tx) {
		for (const id of ids) yield* tx.nodes.insert(nodeRow(id, { locked: false }));
	});
}

function tokenOf({ id, attempt, fencingToken }: TaskRow): string {
	return `${id} ${attempt}/${fencingToken}`;
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
		expect(await store.unit((tx) => tx.tasks.change('t1', { exitCode: 3 }, ['queued']))).toBe(false);
		expect(await store.unit((tx) => tx.tasks.change('t1', { exitCode: 3 }, []))).toBe(false);
		expect(await store.read((tx) => tx.tasks.get('t1'))).toEqual({ ...row, ...patch });
		expect(await store.unit((tx) => tx.tasks.change('t1', { exitCode: 3 }, ['running']))).toBe(true);
		expect(await store.read((tx) => tx.tasks.get('t1'))).toEqual({ ...row, ...patch, exitCode: 3 });
	});

	test('a claim takes what was read, under rising tokens', async () => {
		await using world = await kind.create();
		const { store } = world;
		await withNodes(store, 'n', 'm');
		await store.unit(function* (tx) {
			for (const id of ['t3', 't1', 't2', 't4']) yield* tx.tasks.insert(taskRow(id, 'n'));
			yield* tx.tasks.insert(taskRow('t0', 'm'));
		});
		expect((await claimQueued(store, 'n', 2, 500)).map(tokenOf)).toEqual(['t1 1/1', 't2 1/2']);
		expect(await store.read((tx) => tx.tasks.get('t1'))).toEqual(
			taskRow('t1', 'n', { state: 'leased', attempt: 1, fencingToken: 1, leaseUntilMs: 500 }),
		);
		await store.unit((tx) => tx.tasks.update('t1', { state: 'queued', leaseUntilMs: null }));
		expect((await claimQueued(store, 'n', 10, 600)).map(tokenOf)).toEqual(['t1 2/3', 't3 1/4', 't4 1/5']);
		expect(await claimQueued(store, 'n', 10, 600)).toEqual([]);
		expect(await store.read((tx) => tx.nodes.get('n'))).toMatchObject({ fencingSeq: 5, version: 1 });
		expect(await store.read((tx) => tx.tasks.get('t0'))).toMatchObject({ state: 'queued', fencingToken: 0 });
	});

	test('a claim leaves alone what changed since it was read', async () => {
		await using world = await kind.create();
		const { store } = world;
		await withNodes(store, 'n', 'm');
		await store.unit(function* (tx) {
			for (const id of ['t1', 't2', 't3']) yield* tx.tasks.insert(taskRow(id, 'n'));
			yield* tx.tasks.insert(taskRow('of-m', 'm'));
		});
		const node = present(await store.read((tx) => tx.nodes.get('n')), 'it is there');
		const tasks = await store.read((tx) => tx.tasks.listQueued('n', 10));
		await store.unit((tx) => tx.tasks.update('t2', { state: 'cancelled' }));
		const claim = (from: ClaimingNode, queued: readonly Pick<TaskRow, 'id' | 'attempt'>[] = tasks) =>
			store.unit((tx) => tx.tasks.claim(from, queued, 500));
		// Any of these says that what was signed for the node isn't what it should be told now.
		expect(await claim({ ...node, fencingSeq: 7 })).toEqual(new Set());
		expect(await claim({ ...node, generation: 2 })).toEqual(new Set());
		expect(await claim({ ...node, custody: 'tenant' })).toEqual(new Set());
		expect(await claim(node, [{ id: 't1', attempt: 1 }])).toEqual(new Set());
		expect(await claim({ ...node, fencingSeq: 1 }, [{ id: 'of-m', attempt: 0 }])).toEqual(new Set());
		expect(await claim({ ...node, fencingSeq: 2 })).toEqual(new Set(['t1', 't3']));
		expect(await store.read((tx) => tx.tasks.get('t3'))).toMatchObject({ fencingToken: 5, attempt: 1 });
		expect(await claim(node)).toEqual(new Set());
		await store.unit((tx) => tx.tasks.insert(taskRow('stopped', 'n', { cancelRequestedAtMs: 9 })));
		expect(await claimQueued(store, 'n', 10, 500)).toEqual([]);
		await store.unit(function* (tx) {
			yield* tx.tasks.insert(taskRow('t4', 'n'));
			yield* tx.nodes.update('n', { locked: true });
		});
		expect(await claimQueued(store, 'n', 10, 500)).toEqual([]);
		await store.unit((tx) => tx.nodes.update('n', { locked: false, retiredAtMs: 9 }));
		expect(await claimQueued(store, 'n', 10, 500)).toEqual([]);
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
		const claimed: TaskRow[] = [];
		const work = async (from: Store) => {
			while ((await from.read((tx) => tx.tasks.listQueued('n', 1))).length > 0)
				claimed.push(...(await claimQueued(from, 'n', 4, 500)));
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
			yield* insertProject(tx, 'acme', 'train');
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
		const none = { all: false, unowned: false, deleted: false, grants: [], denials: [] };
		expect(await ids({ visibility: { ...none, grants: ['/acme/'] } })).toEqual(['t1']);
		expect(await ids({ visibility: { ...none, grants: ['/acme/'], denials: ['/acme/p.train/'] } })).toEqual([]);
		expect(await ids({ visibility: none })).toEqual([]);
		const platform = { ...none, unowned: true, deleted: true, grants: ['/'], denials: ['/acme/'] };
		expect(await ids({ visibility: platform })).toEqual(['t3', 't2']);
		expect((await store.read((tx) => tx.tasks.listOpenByAssignment('s1', 5))).map(({ id }) => id)).toEqual(['t1']);
	});

	test('what may run on unheard is found until its own timeout is over, a month after it was lost', async () => {
		await using world = await kind.create();
		const { store } = world;
		await withNodes(store, 'n', 'm');
		const lost = { state: 'lost', reason: 'LEASE_LOST', endedAtMs: 100, timeoutMs: 50 } as const;
		await store.unit(function* (tx) {
			yield* tx.tasks.insert(taskRow('t3', 'n', lost));
			yield* tx.tasks.insert(taskRow('t1', 'n', { ...lost, timeoutMs: 51 }));
			yield* tx.tasks.insert(taskRow('of-m', 'm', lost));
			yield* tx.tasks.insert(taskRow('answered', 'n', { ...lost, reason: 'HOST_DIED' }));
			yield* tx.tasks.insert(taskRow('open', 'n', { ...lost, state: 'running' }));
		});
		const ids = async (nowMs: number, limit = 9) =>
			(await store.read((tx) => tx.tasks.listUnanswered('n', nowMs + MONTH_MS, limit))).map(({ id }) => id);
		expect(await ids(149)).toEqual(['t1', 't3']);
		expect(await ids(149, 1)).toEqual(['t1']);
		expect(await ids(150)).toEqual(['t1']);
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
