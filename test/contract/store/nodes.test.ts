import { expect, test } from 'vitest';
import type { Visibility } from '../../../control-plane/store/port/scopes.ts';
import { insertProject } from './projects.ts';
import { assignmentRow, certificateRow, nodeRow, sessionRow } from './rows.ts';
import { eachStore } from './stores.ts';

eachStore('nodes and sessions', (kind) => {
	test('a row comes back as it was put in', async () => {
		await using world = await kind.create();
		const row = nodeRow('n1', { lastSeenAtMs: 2 ** 52, cordoned: true, capabilities: [], labels: {} });
		await world.store.unit((tx) => tx.nodes.insert(row));
		expect(await world.store.read((tx) => tx.nodes.get('n1'))).toEqual(row);
		expect(await world.store.read((tx) => tx.nodes.get('n2'))).toBeUndefined();
	});

	test('a name is taken until its node is retired', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit((tx) => tx.nodes.insert(nodeRow('n1', { name: 'same' })));
		const again = () => store.unit((tx) => tx.nodes.insert(nodeRow('n2', { name: 'same' })));
		await expect(again()).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
		await store.unit((tx) => tx.nodes.update('n1', { state: 'retired', retiredAtMs: 9 }));
		await again();
		expect((await store.read((tx) => tx.nodes.getByName('same')))?.id).toBe('n2');
		expect(await store.read((tx) => tx.nodes.count())).toBe(1);
		expect((await store.read((tx) => tx.nodes.getBySerial('serial-n1')))?.id).toBe('n1');
	});

	test('an update raises the version, and only on the version it expects', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit((tx) => tx.nodes.insert(nodeRow('n1')));
		const patch = { labels: { a: 'b' }, cordoned: true, cordonReason: 'disk' };
		expect(await store.unit((tx) => tx.nodes.update('n1', patch, 1))).toEqual(nodeRow('n1', { ...patch, version: 2 }));
		expect(await store.unit((tx) => tx.nodes.update('n1', { cordoned: false }, 1))).toBeUndefined();
		expect(await store.unit((tx) => tx.nodes.update('nobody', { cordoned: false }))).toBeUndefined();
		expect(await store.read((tx) => tx.nodes.get('n1'))).toMatchObject({ cordoned: true, version: 2 });
	});

	test('a list is a page by id, filtered by labels and by who may see it', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(function* (tx) {
			for (const id of ['a', 'b', 'c', 'd']) {
				yield* tx.nodes.insert(nodeRow(id, { labels: { rack: id < 'c' ? 'r1' : 'r2', 'quo"ted': "o'k" } }));
			}
			yield* tx.nodes.update('d', { state: 'retired' });
			yield* insertProject(tx, 'acme', 'train');
			yield* insertProject(tx, 'train', 'acme');
			yield* tx.assignments.insert(assignmentRow('s1', 'a'));
			yield* tx.assignments.insert(assignmentRow('s2', 'b', { organization: 'train', project: 'acme' }));
			yield* tx.assignments.insert(assignmentRow('s3', 'c', { untilMs: 20 }));
		});
		const ids = async (more: {
			afterId?: string;
			limit?: number;
			selector?: Record<string, string>;
			visibility?: Visibility;
			includeRetired?: boolean;
		}) => {
			const page = { afterId: '', limit: 10, selector: {}, visibility: { all: true }, includeRetired: false } as const;
			return (await store.read((tx) => tx.nodes.list({ ...page, ...more }))).map(({ id }) => id);
		};
		expect(await ids({})).toEqual(['a', 'b', 'c']);
		expect(await ids({ includeRetired: true })).toEqual(['a', 'b', 'c', 'd']);
		expect(await ids({ afterId: 'a', limit: 1 })).toEqual(['b']);
		expect(await ids({ selector: { rack: 'r1', 'quo"ted': "o'k" } })).toEqual(['a', 'b']);
		expect(await ids({ selector: { rack: 'r1', other: 'x' } })).toEqual([]);
		const none = { all: false, unowned: false, deleted: false, grants: [], denials: [] } as const;
		const seen = (more: { readonly grants?: readonly string[] }) => ids({ visibility: { ...none, ...more } });
		expect(await seen({ grants: ['/acme/p.train/', '/x/'] })).toEqual(['a']);
		expect(await seen({ grants: ['/acme/', '/train/'] })).toEqual(['a', 'b']);
		expect(await seen({})).toEqual([]);
		const platform = { unowned: true, deleted: true, grants: ['/'], denials: ['/train/'] };
		expect(await ids({ visibility: { all: false, ...platform } })).toEqual(['a', 'c']);
		await store.unit((tx) => tx.scopes.update('organizations/acme/projects/train', { state: 'deleted' }));
		expect(await seen({ grants: ['/acme/'] })).toEqual([]);
		expect(await ids({ visibility: { all: false, ...platform } })).toEqual(['a', 'c']);
	});

	test('the fence of a node is its row, as far as it goes', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit((tx) =>
			tx.nodes.insert(nodeRow('n1', { epoch: 3, factSeq: 7, custody: 'tenant', retiredAtMs: 5 })),
		);
		const fence = { id: 'n1', epoch: 3, factSeq: 7, custody: 'tenant', retiredAtMs: 5 };
		expect(await store.unit((tx) => tx.nodes.getFence('n1'))).toEqual(fence);
		expect(await store.read((tx) => tx.nodes.getFence('n2'))).toBeUndefined();
	});

	test('epochs and fencing tokens only rise', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit((tx) => tx.nodes.insert(nodeRow('n1')));
		expect(await store.unit((tx) => tx.nodes.nextEpoch('n1'))).toBe(1);
		expect(await store.unit((tx) => tx.nodes.nextEpoch('n1'))).toBe(2);
		await expect(store.unit((tx) => tx.nodes.nextEpoch('nobody'))).rejects.toMatchObject({ reason: 'NODE_NOT_FOUND' });
		for (const column of ['epoch', 'fencing_seq', 'generation']) {
			await expect(world.raw(`UPDATE nodes SET ${column} = ${column} - 1`)).rejects.toThrow('GPUAAS_COUNTER_DECREASED');
		}
		expect(await store.read((tx) => tx.nodes.get('n1'))).toMatchObject({ epoch: 2, fencingSeq: 0, version: 1 });
	});

	test('liveness moves forward and leaves the etag alone', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(function* (tx) {
			for (const id of ['a', 'b']) yield* tx.nodes.insert(nodeRow(id));
			yield* tx.nodes.setLastSeen(['a', 'b', 'nobody'], 50);
			yield* tx.nodes.setLastSeen(['a'], 40);
			yield* tx.nodes.setLastSeen([], 90);
			yield* tx.nodes.setFactSeq('b', 7);
		});
		expect(await store.read((tx) => tx.nodes.get('a'))).toMatchObject({ lastSeenAtMs: 50, version: 1 });
		expect(await store.read((tx) => tx.nodes.get('b'))).toMatchObject({ lastSeenAtMs: 50, factSeq: 7, version: 1 });
	});

	test('laggards are found by what they acknowledged and by the certificate in use', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(function* (tx) {
			for (const id of ['a', 'b', 'c', 'd'])
				yield* tx.nodes.insert(nodeRow(id, { bundleSeqAcked: id === 'b' ? 5 : 4 }));
			yield* tx.nodes.update('d', { state: 'quarantined' });
			yield* tx.certificates.insert(certificateRow('1', 'a', { state: 'current', issuerKeyId: 'old' }));
			yield* tx.certificates.insert(certificateRow('2', 'a', { state: 'pending', issuerKeyId: 'new' }));
			yield* tx.certificates.insert(certificateRow('3', 'b', { state: 'current', issuerKeyId: 'new' }));
			yield* tx.certificates.insert(certificateRow('4', 'c', { state: 'pending', issuerKeyId: 'old' }));
			yield* tx.certificates.insert(certificateRow('5', 'd', { state: 'current', issuerKeyId: 'old' }));
		});
		const ids = (rows: readonly { readonly id: string }[]) => rows.map(({ id }) => id);
		expect(ids(await store.read((tx) => tx.nodes.listBundleLaggards(5, 10)))).toEqual(['a', 'c']);
		await store.unit((tx) => tx.nodes.update('b', { custody: 'tenant' }));
		expect(ids(await store.read((tx) => tx.nodes.listBundleLaggards(5, 10)))).toEqual(['a', 'b', 'c']);
		await store.unit((tx) => tx.nodes.update('b', { custody: 'platform' }));
		expect(ids(await store.read((tx) => tx.nodes.listBundleLaggards(5, 1)))).toEqual(['a']);
		expect(ids(await store.read((tx) => tx.nodes.listIssuerLaggards('new', 10)))).toEqual(['a', 'c']);
	});

	test('a session is replaced by a newer epoch only, and renewed while it is the newest', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(function* (tx) {
			for (const id of ['a', 'b', 'c']) yield* tx.nodes.insert(nodeRow(id));
		});
		const put = (row: ReturnType<typeof sessionRow>) => store.unit((tx) => tx.sessions.put(row));
		expect(await put(sessionRow('a', 2))).toBe(true);
		expect(await put(sessionRow('a', 2, { replicaId: 'other' }))).toBe(false);
		expect(await put(sessionRow('a', 1, { replicaId: 'other' }))).toBe(false);
		expect(await put(sessionRow('a', 3, { replicaId: 'newer' }))).toBe(true);
		expect(await put(sessionRow('b', 1))).toBe(true);
		expect(await put(sessionRow('c', 1))).toBe(true);
		expect(await store.unit((tx) => tx.sessions.markLost('c', 1, 5))).toBe(true);
		const renewed = [
			{ nodeId: 'a', epoch: 2 },
			{ nodeId: 'b', epoch: 1 },
			{ nodeId: 'c', epoch: 1 },
			{ nodeId: 'nobody', epoch: 1 },
		];
		expect(await store.unit((tx) => tx.sessions.renew(renewed, 500))).toEqual(['a', 'c', 'nobody']);
		expect(await store.unit((tx) => tx.sessions.renew([], 500))).toEqual([]);
		expect(await store.read((tx) => tx.sessions.get('a'))).toEqual(sessionRow('a', 3, { replicaId: 'newer' }));
		expect(await store.read((tx) => tx.sessions.get('b'))).toEqual(sessionRow('b', 1, { leaseUntilMs: 500 }));
		expect((await store.read((tx) => tx.sessions.getMany(['b', 'a', 'x']))).map(({ nodeId }) => nodeId)).toEqual([
			'a',
			'b',
		]);
	});

	test('a session that ended or was lost is marked once', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(function* (tx) {
			yield* tx.nodes.insert(nodeRow('a'));
			yield* tx.sessions.put(sessionRow('a', 1));
		});
		expect(await store.unit((tx) => tx.sessions.disconnect('a', 2, 20))).toBe(false);
		expect(await store.unit((tx) => tx.sessions.disconnect('a', 1, 20))).toBe(true);
		expect(await store.unit((tx) => tx.sessions.disconnect('a', 1, 30))).toBe(false);
		expect(await store.read((tx) => tx.sessions.listExpired(100, 10))).toEqual([]);
		expect(await store.read((tx) => tx.sessions.listExpired(101, 10))).toHaveLength(1);
		expect(await store.unit((tx) => tx.sessions.markLost('a', 1, 101))).toBe(true);
		expect(await store.unit((tx) => tx.sessions.markLost('a', 1, 102))).toBe(false);
		expect(await store.read((tx) => tx.sessions.listExpired(1000, 10))).toEqual([]);
		expect(await store.read((tx) => tx.sessions.get('a'))).toEqual(
			sessionRow('a', 1, { disconnectedAtMs: 20, lostAtMs: 101 }),
		);
	});
});
