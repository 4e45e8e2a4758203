import { expect, test } from 'vitest';
import type { RecordingRow } from '../../../control-plane/store/port/recordings.ts';
import { insertProject } from './projects.ts';
import { nodeRow, recordingRow } from './rows.ts';
import { eachStore } from './stores.ts';

eachStore('recordings', (kind) => {
	async function withRows(...rows: readonly RecordingRow[]) {
		const world = await kind.create();
		await world.store.unit(function* (tx) {
			for (const id of ['n1', 'n2']) yield* tx.nodes.insert(nodeRow(id));
			yield* insertProject(tx, 'acme', 'train');
			for (const each of rows) yield* tx.recordings.insert(each);
		});
		return world;
	}
	const idsOf = (rows: readonly RecordingRow[]) => rows.map(({ id }) => id);

	test('a row comes back as it was put in, and changes only from the state that was named', async () => {
		const first = recordingRow('r1', { manifest: Uint8Array.of(1, 0, 255), sha256: 'a'.repeat(64) });
		await using world = await withRows(first);
		const { store } = world;
		expect(await store.read((tx) => tx.recordings.get('r1'))).toEqual(first);
		const patch = { state: 'sealed', endedAtMs: 20, gaps: 3, gapBytes: 5, heldAtMs: 5, holdReason: "court's" } as const;
		expect(await store.unit((tx) => tx.recordings.update('r1', patch, 'sealed'))).toBeUndefined();
		expect(await store.unit((tx) => tx.recordings.update('r1', patch, 'recording'))).toEqual({ ...first, ...patch });
		expect(await store.unit((tx) => tx.recordings.update('r1', { state: 'purged' }, 'recording'))).toBeUndefined();
		expect(await store.read((tx) => tx.recordings.get('r2'))).toBeUndefined();
	});

	test('a part of a terminal is there once', async () => {
		await using world = await withRows(recordingRow('r1'), recordingRow('r2', { terminalId: 'terminal-r1', part: 2 }));
		const again = recordingRow('r3', { terminalId: 'terminal-r1', part: 2 });
		await expect(world.store.unit((tx) => tx.recordings.insert(again))).rejects.toMatchObject({
			code: 'ALREADY_EXISTS',
		});
		expect(idsOf(await world.store.read((tx) => tx.recordings.listParts('terminal-r1', 10)))).toEqual(['r1', 'r2']);
	});

	test('a list is filtered by node, terminal and what the caller may see, newest first', async () => {
		const theirs = { organization: 'acme', project: 'train' };
		await using world = await withRows(
			recordingRow('r1', theirs),
			recordingRow('r2', { nodeId: 'n2' }),
			recordingRow('r3'),
		);
		const none = { all: false, unowned: false, deleted: false, grants: [], denials: [] } as const;
		const list = async (more: object) => {
			const page = { afterId: '', limit: 10, nodeId: null, terminalId: null, visibility: { all: true } as const };
			return idsOf(await world.store.read((tx) => tx.recordings.list({ ...page, ...more })));
		};
		expect(await list({})).toEqual(['r3', 'r2', 'r1']);
		expect(await list({ afterId: 'r3', limit: 1 })).toEqual(['r2']);
		expect(await list({ nodeId: 'n2' })).toEqual(['r2']);
		expect(await list({ terminalId: 'terminal-r3' })).toEqual(['r3']);
		expect(await list({ visibility: none })).toEqual([]);
		expect(await list({ visibility: { ...none, grants: ['/acme/'] } })).toEqual(['r1']);
		expect(
			await list({ visibility: { ...none, unowned: true, deleted: true, grants: ['/'], denials: ['/acme/'] } }),
		).toEqual(['r3', 'r2']);
	});

	test('what grows on a replica, and what retention may delete: sealed, old and not held', async () => {
		await using world = await withRows(
			recordingRow('r1'),
			recordingRow('r2', { replicaId: 'replica-2' }),
			recordingRow('r3', { state: 'sealed', endedAtMs: 100 }),
			recordingRow('r4', { state: 'sealed', endedAtMs: 99 }),
			recordingRow('r5', { state: 'sealed', endedAtMs: 98, heldAtMs: 1 }),
			recordingRow('r6', { state: 'purged', endedAtMs: 98 }),
			recordingRow('r7', { state: 'purged', endedAtMs: 98, purgedAtMs: 99 }),
			recordingRow('r8'),
		);
		const { store } = world;
		expect(idsOf(await store.read((tx) => tx.recordings.listRecording('replica-1', '', 10)))).toEqual(['r1', 'r8']);
		expect(idsOf(await store.read((tx) => tx.recordings.listRecording('replica-1', '', 1)))).toEqual(['r1']);
		expect(idsOf(await store.read((tx) => tx.recordings.listRecording('replica-1', 'r1', 1)))).toEqual(['r8']);
		expect(idsOf(await store.read((tx) => tx.recordings.listExpired(101, 10)))).toEqual(['r4', 'r3']);
		expect(idsOf(await store.read((tx) => tx.recordings.listExpired(100, 10)))).toEqual(['r4']);
		expect(idsOf(await store.read((tx) => tx.recordings.listPurging(10)))).toEqual(['r6']);
		expect(idsOf(await store.read((tx) => tx.recordings.listExpired(101, 1)))).toEqual(['r4']);
	});
});
