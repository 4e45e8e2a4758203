import { expect, test } from 'vitest';
import { assignmentRow, certificateRow, nodeRow, operationRow } from './rows.ts';
import { eachStore } from './stores.ts';

const ids = (rows: readonly { readonly id: string }[]) => rows.map(({ id }) => id);

eachStore('tables', (kind) => {
	test('a node or slice has one open assignment', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(function* (tx) {
			yield* tx.nodes.insert(nodeRow('n'));
			yield* tx.assignments.insert(assignmentRow('a1', 'n'));
			yield* tx.assignments.insert(assignmentRow('a2', 'n', { sliceId: 'mig-1', mode: 'slice' }));
		});
		const again = () => store.unit((tx) => tx.assignments.insert(assignmentRow('a3', 'n')));
		await expect(again()).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
		expect((await store.read((tx) => tx.assignments.openOfNode('n')))?.id).toBe('a1');
		expect(ids(await store.read((tx) => tx.assignments.openOfNodes(['n', 'x'])))).toEqual(['a1', 'a2']);
		expect(await store.unit((tx) => tx.assignments.close('a1', 20))).toEqual(assignmentRow('a1', 'n', { untilMs: 20 }));
		expect(await store.unit((tx) => tx.assignments.close('a1', 30))).toBeUndefined();
		await again();
		expect((await store.read((tx) => tx.assignments.get('a1')))?.untilMs).toBe(20);
	});

	test('the open assignments of a project, and of no other', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(function* (tx) {
			for (const id of ['m', 'n', 'o']) yield* tx.nodes.insert(nodeRow(id));
			yield* tx.assignments.insert(assignmentRow('a1', 'n', { sliceId: 'mig-2', mode: 'slice' }));
			yield* tx.assignments.insert(assignmentRow('a2', 'n', { sliceId: 'mig-1', mode: 'slice' }));
			yield* tx.assignments.insert(assignmentRow('a3', 'm'));
			yield* tx.assignments.insert(assignmentRow('a4', 'm', { sliceId: 'mig-1', untilMs: 20 }));
			yield* tx.assignments.insert(assignmentRow('a5', 'o', { organization: 'train', project: 'acme' }));
			yield* tx.assignments.insert(assignmentRow('a6', 'o', { sliceId: 'mig-1', project: 'other' }));
		});
		const { organization, project } = assignmentRow('x', 'n');
		const open = (limit: number) => store.read((tx) => tx.assignments.openOfProject({ organization, project }, limit));
		expect(ids(await open(10))).toEqual(['a3', 'a2', 'a1']);
		expect(ids(await open(2))).toEqual(['a3', 'a2']);
	});

	test('assignments that touch a span are found, ended ones too', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(function* (tx) {
			for (const id of ['n', 'm']) yield* tx.nodes.insert(nodeRow(id));
			yield* tx.assignments.insert(assignmentRow('old', 'n', { fromMs: 10, untilMs: 20 }));
			yield* tx.assignments.insert(assignmentRow('mid', 'n', { fromMs: 20, untilMs: 30 }));
			yield* tx.assignments.insert(assignmentRow('now', 'n', { fromMs: 40, untilMs: null }));
			yield* tx.assignments.insert(assignmentRow('other', 'm', { fromMs: 0, untilMs: null }));
		});
		const during = async (fromMs: number, untilMs: number, limit = 9) =>
			ids(await store.read((tx) => tx.assignments.ofNodeDuring('n', fromMs, untilMs, limit)));
		expect(await during(0, 100)).toEqual(['now', 'mid', 'old']);
		expect(await during(20, 40)).toEqual(['mid']);
		expect(await during(19, 41)).toEqual(['now', 'mid', 'old']);
		expect(await during(1000, 2000)).toEqual(['now']);
		expect(await during(0, 100, 1)).toEqual(['now']);
		expect(await during(0, 10)).toEqual([]);
	});

	test('a node keeps its newest inventory a custody, and the newest differences', async () => {
		await using world = await kind.create();
		const { store } = world;
		const row = (custody: 'platform' | 'tenant', receivedAtMs: number) => ({
			nodeId: 'n',
			custody,
			digest: `d${receivedAtMs}`,
			inventory: Uint8Array.of(receivedAtMs),
			receivedAtMs,
		});
		await store.unit(function* (tx) {
			yield* tx.nodes.insert(nodeRow('n'));
			yield* tx.nodes.insert(nodeRow('m'));
			for (const one of [row('platform', 1), row('tenant', 2), row('platform', 3)]) yield* tx.inventories.put(one);
			yield* tx.inventories.put({ ...row('platform', 9), nodeId: 'm' });
			for (let id = 1; id <= 5; id += 1)
				yield* tx.inventories.insertChange(
					{ id: `c${id}`, nodeId: 'n', custody: 'platform', digest: 'd', changes: Uint8Array.of(id), receivedAtMs: id },
					3,
				);
		});
		expect(await store.read((tx) => tx.inventories.ofNode('n'))).toEqual([row('platform', 3), row('tenant', 2)]);
		const many = await store.read((tx) => tx.inventories.ofNodes(['n', 'm', 'none']));
		expect(many.map(({ nodeId, digest }) => `${nodeId} ${digest}`)).toEqual(['m d9', 'n d3', 'n d2']);
		expect(await store.read((tx) => tx.inventories.ofNodes([]))).toEqual([]);
		const versions = await store.read((tx) => tx.inventories.versionsOfNodes(['n', 'm', 'none']));
		expect(versions).toEqual(many.map(({ inventory: _, ...version }) => version));
		expect(await store.read((tx) => tx.inventories.versionsOfNodes([]))).toEqual([]);
		expect(ids(await store.read((tx) => tx.inventories.listChanges('n', 9)))).toEqual(['c5', 'c4', 'c3']);
		expect(ids(await store.read((tx) => tx.inventories.listChanges('n', 1)))).toEqual(['c5']);
		expect(await store.read((tx) => tx.inventories.listChanges('m', 9))).toEqual([]);
	});

	test('a node keeps its newest health facts a custody, and none that is too old', async () => {
		await using world = await kind.create();
		const { store } = world;
		const row = (id: string, custody: 'platform' | 'tenant', receivedAtMs: number, nodeId = 'n') => ({
			...{ id, nodeId, custody, factSeq: receivedAtMs, kind: 'XID', subjectId: 'GPU-1', code: 'xid:79' },
			...{ fact: Uint8Array.of(receivedAtMs), receivedAtMs },
		});
		const newest = row('e', 'platform', 5);
		await store.unit(function* (tx) {
			for (const id of ['n', 'm']) yield* tx.nodes.insert(nodeRow(id));
			for (const [at, id] of ['a', 'b', 'c', 'd'].entries()) yield* tx.healthFacts.insert(row(id, 'platform', at + 1));
			yield* tx.healthFacts.insert(row('b2', 'tenant', 2));
			yield* tx.healthFacts.insert(row('a2', 'platform', 1, 'm'));
			yield* tx.healthFacts.insert(newest);
		});
		const kept = async (nodeId = 'n', limit = 10) =>
			ids(await store.read((tx) => tx.healthFacts.ofNode(nodeId, limit)));
		const trim = (keepMax: number, fromMs: number) =>
			store.unit((tx) => tx.healthFacts.trim('n', 'platform', keepMax, fromMs));
		expect(await kept()).toEqual(['e', 'd', 'c', 'b2', 'b', 'a']);
		expect(await kept('n', 2)).toEqual(['e', 'd']);
		expect(await store.read((tx) => tx.healthFacts.ofNode('n', 1))).toEqual([newest]);
		await trim(9, 0);
		expect(await kept()).toHaveLength(6);
		await trim(4, 0);
		expect(await kept()).toEqual(['e', 'd', 'c', 'b2', 'b']);
		await trim(4, 4);
		expect(await kept()).toEqual(['e', 'd', 'b2']);
		expect(await kept('m')).toEqual(['a2']);
	});

	test('a node has one current and one pending certificate', async () => {
		await using world = await kind.create();
		const { store } = world;
		const insert = (...args: Parameters<typeof certificateRow>) =>
			store.unit((tx) => tx.certificates.insert(certificateRow(...args)));
		await insert('1', 'n', { state: 'current' });
		await insert('2', 'n');
		await expect(insert('3', 'n')).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
		await expect(insert('3', 'n', { state: 'current' })).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
		await expect(insert('1', 'm')).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
		// Replicas are not bound to slots.
		await insert('4', 'n', { kind: 'replica', state: 'current' });
		const promote = await store.unit(function* (tx) {
			yield* tx.certificates.update('1', { state: 'superseded' });
			return yield* tx.certificates.update('2', { state: 'current', firstUsedAtMs: 9 });
		});
		expect(promote).toEqual(certificateRow('2', 'n', { state: 'current', firstUsedAtMs: 9 }));
		const slots = await store.read((tx) => tx.certificates.slots('n'));
		expect([slots.current?.serial, slots.pending]).toEqual(['2', undefined]);
		await insert('5', 'n');
		await insert('6', 'm', { state: 'revoked' });
		await insert('7', 'm', { state: 'current' });
		await insert('8', 'other', { state: 'current' });
		const many = await store.read((tx) => tx.certificates.slotsOf(['n', 'm', 'none']));
		expect(many.map(({ serial }) => serial).sort()).toEqual(['2', '5', '7']);
		expect(await store.read((tx) => tx.certificates.slotsOf([]))).toEqual([]);
		expect(await store.unit((tx) => tx.certificates.update('none', {}))).toBeUndefined();
	});

	test('certificates are listed by serial, live ones and denied ones by time', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(function* (tx) {
			yield* tx.certificates.insert(certificateRow('b', 'n', { state: 'superseded', notAfterMs: 10 }));
			yield* tx.certificates.insert(certificateRow('a', 'n', { state: 'current' }));
			yield* tx.certificates.insert(certificateRow('10', 'm', { state: 'current' }));
			yield* tx.certificates.update('a', { state: 'revoked', revokedAtMs: 500, revocationReason: 'stolen' });
			yield* tx.certificates.update('b', { state: 'revoked', revokedAtMs: 5 });
		});
		const serials = (rows: readonly { readonly serial: string }[]) => rows.map(({ serial }) => serial);
		const page = { afterId: '', limit: 10 };
		expect(serials(await store.read((tx) => tx.certificates.list({ ...page, subjectId: null })))).toEqual([
			'10',
			'a',
			'b',
		]);
		expect(serials(await store.read((tx) => tx.certificates.list({ ...page, afterId: 'a', subjectId: 'n' })))).toEqual([
			'b',
		]);
		expect(serials(await store.read((tx) => tx.certificates.listLive('m', 999)))).toEqual(['10']);
		expect(serials(await store.read((tx) => tx.certificates.listLive('m', 1000)))).toEqual([]);
		expect(serials(await store.read((tx) => tx.certificates.listLive('n', 0)))).toEqual([]);
		const denied = { serial: 'a', notAfterMs: 1000, revokedAtMs: 500, subjectId: 'n' };
		expect(await store.read((tx) => tx.certificates.listDenied(20, 0, 10))).toEqual([denied]);
		expect(await store.read((tx) => tx.certificates.listDenied(0, 501, 10))).toEqual([]);
		expect(await store.read((tx) => tx.certificates.listDenied(1000, 0, 10))).toEqual([]);
		expect((await store.read((tx) => tx.certificates.get('a')))?.revocationReason).toBe('stolen');
	});

	test('a join token changes state only from the one that was expected', async () => {
		await using world = await kind.create();
		const { store } = world;
		const row = {
			id: 't1',
			state: 'unused',
			publicKey: new Uint8Array(32).fill(3),
			nodeName: 'gpu-1',
			labels: { rack: 'r1' },
			expectedSerial: '',
			createdAtMs: 1,
			expiresAtMs: 2,
			createdBy: 'operator',
			nodeId: null,
			usedBySpkiSha256: null,
		} as const;
		await store.unit((tx) => tx.joinTokens.insert(row));
		expect(await store.read((tx) => tx.joinTokens.get('t1'))).toEqual(row);
		const use = () =>
			store.unit((tx) => tx.joinTokens.update('t1', { state: 'used', nodeId: 'n', usedBySpkiSha256: 'ab' }, 'unused'));
		expect(await use()).toEqual({ ...row, state: 'used', nodeId: 'n', usedBySpkiSha256: 'ab' });
		expect(await use()).toBeUndefined();
		expect(ids(await store.read((tx) => tx.joinTokens.list({ afterId: '', limit: 5 })))).toEqual(['t1']);
		expect(await store.read((tx) => tx.joinTokens.list({ afterId: 't1', limit: 5 }))).toEqual([]);
	});

	test('the authority’s document is written by whoever saw the newest version', async () => {
		await using world = await kind.create();
		const { store } = world;
		const put = (document: string, ifVersion: number) => store.unit((tx) => tx.authority.put(document, ifVersion));
		expect(await store.read((tx) => tx.authority.get())).toBeUndefined();
		expect(await put('{}', 1)).toBe(false);
		expect(await put('{"a":1}', 0)).toBe(true);
		expect(await put('{"a":2}', 0)).toBe(false);
		expect(await put('{"a":3}', 1)).toBe(true);
		expect(await put('{"a":4}', 1)).toBe(false);
		expect(await store.read((tx) => tx.authority.get())).toEqual({ version: 2, document: '{"a":3}' });
	});

	test('an operation changes while it runs', async () => {
		await using world = await kind.create();
		const { store } = world;
		await store.unit(function* (tx) {
			for (const id of ['o1', 'o2', 'o3']) yield* tx.operations.insert(operationRow(id, `node-${id}`));
		});
		const end = { state: 'succeeded', endedAtMs: 9, progress: 'done', data: '{"a":1}' } as const;
		expect(await store.unit((tx) => tx.operations.update('o1', end))).toEqual(operationRow('o1', 'node-o1', end));
		expect(await store.unit((tx) => tx.operations.update('o1', { progress: 'no' }))).toBeUndefined();
		expect(ids(await store.read((tx) => tx.operations.list({ afterId: '', limit: 2 })))).toEqual(['o3', 'o2']);
		expect(ids(await store.read((tx) => tx.operations.list({ afterId: 'o2', limit: 2 })))).toEqual(['o1']);
		expect(ids(await store.read((tx) => tx.operations.listRunning(10)))).toEqual(['o2', 'o3']);
		expect((await store.read((tx) => tx.operations.runningOfTarget('node-o2', 'nodes.drain')))?.id).toBe('o2');
		expect(await store.read((tx) => tx.operations.runningOfTarget('node-o1', 'nodes.drain'))).toBeUndefined();
	});

	test('outbox rows are taken once, oldest first, also by two at once', async () => {
		await using world = await kind.create();
		const { store } = world;
		const other = kind.dialect === 'postgres' ? await world.open() : store;
		await store.unit(function* (tx) {
			for (let index = 0; index < 60; index += 1) {
				yield* tx.outbox.append({ id: `o${100 + index}`, topic: 'tasks.queued', key: 'n', atMs: index });
			}
		});
		const first = await store.unit((tx) => tx.outbox.take(2));
		expect(first[0]).toEqual({ id: 'o100', topic: 'tasks.queued', key: 'n', atMs: 0 });
		const taken: string[] = ids(first);
		const work = async (from: typeof store) => {
			for (let round = 0; round < 20; round += 1) taken.push(...ids(await from.unit((tx) => tx.outbox.take(3))));
		};
		await Promise.all([work(store), work(other)]);
		expect(taken.toSorted()).toEqual(Array.from({ length: 60 }, (_, index) => `o${100 + index}`));
	});

	test('the first answer to a request id is kept until it expires', async () => {
		await using world = await kind.create();
		const { store } = world;
		const row = {
			principalId: 'p',
			method: 'm',
			requestId: 'r',
			bodySha256: Uint8Array.of(1),
			response: new Uint8Array(0),
			leafId: 'leaf',
			expiresAtMs: 100,
		};
		await store.unit((tx) => tx.requestKeys.insert(row));
		const other = { ...row, response: Uint8Array.of(5) };
		await expect(store.unit((tx) => tx.requestKeys.insert(other))).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
		expect(await store.read((tx) => tx.requestKeys.get('p', 'm', 'r'))).toEqual(row);
		expect(await store.unit((tx) => tx.requestKeys.prune(99, 10))).toBe(0);
		expect(await store.unit((tx) => tx.requestKeys.prune(100, 10))).toBe(1);
		expect(await store.read((tx) => tx.requestKeys.get('p', 'm', 'r'))).toBeUndefined();
	});

	test('a lease has one holder until it runs out', async () => {
		await using world = await kind.create();
		const { store } = world;
		const acquire = (holder: string, nowMs: number) =>
			store.unit((tx) => tx.leases.acquire('job', holder, nowMs, nowMs + 10));
		expect(await acquire('a', 0)).toBe(true);
		expect(await acquire('b', 9)).toBe(false);
		expect(await acquire('a', 9)).toBe(true);
		expect(await acquire('b', 18)).toBe(false);
		expect(await acquire('b', 19)).toBe(true);
		await store.unit((tx) => tx.leases.release('job', 'a'));
		expect(await acquire('a', 20)).toBe(false);
		await store.unit((tx) => tx.leases.release('job', 'b'));
		expect(await acquire('a', 20)).toBe(true);
	});
});
