import { expect, test } from 'vitest';
import type { HealthOverrideRow, NodeHealthRow } from '../../../control-plane/store/port/node-health.ts';
import type { Statement } from '../../../control-plane/store/port/unit.ts';
import { Compiler } from '../../../control-plane/store/tables/compiler.ts';
import { nodeHealthTable } from '../../../control-plane/store/tables/node-health.ts';
import { nodeRow } from './rows.ts';
import { eachStore } from './stores.ts';

const row = (nodeId: string, patch: Partial<NodeHealthRow> = {}): NodeHealthRow => ({
	nodeId,
	state: 'HEALTHY',
	schedulable: true,
	claimed: '',
	simulated: false,
	gpus: 8,
	policyVersion: 'p1',
	sinceMs: 1,
	verdicts: Uint8Array.of(1),
	saved: Uint8Array.of(2),
	factId: '',
	evidenceId: '',
	quarantinedAtMs: null,
	quarantineReason: '',
	quarantines: [],
	judgedAtMs: 1,
	version: 1,
	...patch,
});

eachStore('node health', (kind) => {
	test('is written by whoever saw the newest version', async () => {
		await using world = await kind.create();
		const { store } = world;
		for (const id of ['n', 'm']) await store.unit((tx) => tx.nodes.insert(nodeRow(id)));
		const put = (patch: Partial<NodeHealthRow>, ifVersion: number) =>
			store.unit((tx) => tx.nodeHealth.put(row('n', patch), ifVersion));
		expect(await put({}, 0)).toBe(true);
		expect(await put({ state: 'UNKNOWN' }, 0)).toBe(false);
		const next = { state: 'UNHEALTHY', schedulable: false, quarantinedAtMs: 5, quarantines: [3, 5], version: 2 };
		expect(await put(next, 1)).toBe(true);
		expect(await put({ version: 2 }, 1)).toBe(false);
		expect(await store.read((tx) => tx.nodeHealth.get('n'))).toEqual(row('n', next));
		expect(await store.read((tx) => tx.nodeHealth.ofNodes(['m', 'n', 'x']))).toEqual([row('n', next)]);
		expect(await store.read((tx) => tx.nodeHealth.ofNodes([]))).toEqual([]);
		const { verdicts: _, saved: __, ...line } = row('n', next);
		expect(await store.read((tx) => tx.nodeHealth.linesOfNodes(['m', 'n']))).toEqual([line]);
		expect(await store.read((tx) => tx.nodeHealth.linesOfNodes([]))).toEqual([]);
	});

	test('a breaker counts nodes with GPUs that are there, and what is simulated in quarantine not at all', async () => {
		await using world = await kind.create();
		const { store } = world;
		const rows = [
			row('a'),
			row('b', { quarantinedAtMs: 1 }),
			row('c', { quarantinedAtMs: 1, quarantineReason: 'simulated: xid:79' }),
			row('d', { simulated: true }),
			row('e', { quarantinedAtMs: 1, gpus: 0 }),
			row('f', { quarantinedAtMs: 1 }),
		];
		await store.unit(function* (tx) {
			for (const one of rows) {
				yield* tx.nodes.insert(nodeRow(one.nodeId));
				yield* tx.nodeHealth.put(one, 0);
			}
			yield* tx.nodes.update('f', { state: 'retired', retiredAtMs: 9 });
		});
		expect(await store.read((tx) => tx.nodeHealth.fleet())).toEqual({ gpuNodes: 4, quarantined: 1 });
		await store.unit(function* (tx) {
			for (const [id, rack] of Object.entries({ a: 'r1', b: 'r1', c: 'r2', e: 'r1', f: 'r1' }))
				yield* tx.nodes.update(id, { labels: { domain: rack } });
		});
		const of = (value: string) => store.read((tx) => tx.nodeHealth.fleet({ key: 'domain', value }));
		expect(await of('r1')).toEqual({ gpuNodes: 2, quarantined: 1 });
		expect(await of('r2')).toEqual({ gpuNodes: 1, quarantined: 0 });
		expect(await of('r3')).toEqual({ gpuNodes: 0, quarantined: 0 });
	});

	test('a breaker counts by an index, not by the rows, which are some kilobytes each', async () => {
		await using world = await kind.create();
		if (kind.dialect === 'sqlite') {
			const { value: statement } = nodeHealthTable(new Compiler('sqlite')).fleet().next();
			const plan = await world.raw(`explain query plan ${(statement as Statement).sql}`);
			expect(JSON.stringify(plan)).toContain('USING COVERING INDEX node_health_fleet');
		} else {
			// The planner of PostgreSQL goes by how full tables are, so that an empty one shows nothing.
			const [index] = await world.raw(`select indexdef from pg_indexes where indexname = 'node_health_fleet'`);
			expect(JSON.stringify(index)).toMatch(/node_id, gpus, quarantined_at_ms, quarantine_reason\) WHERE \(gpus > 0\)/);
		}
	});

	test('changes and evidence of a node are bounded, facts are read on from where one was', async () => {
		await using world = await kind.create();
		const { store } = world;
		const change = (id: string, nodeId = 'n') => ({
			...{ id, nodeId, custody: 'platform' as const, kind: 'gpu', subjectId: 'GPU-1', subjectIndex: 0 },
			...{ before: 'HEALTHY', after: 'UNHEALTHY', verdict: Uint8Array.of(1), atMs: 1 },
		});
		const evidence = (id: string) => ({
			...{ id, nodeId: 'n', clearing: 'serviced', kind: 'node', subjectId: '', subjectIndex: 0 },
			...{ taskId: '', reason: 'r', createdBy: 'ada', atMs: 1 },
		});
		const fact = (id: string) => ({
			...{ id, nodeId: 'n', custody: 'platform' as const, factSeq: 1, kind: 'XID', subjectId: '', code: '' },
			...{ fact: Uint8Array.of(1), receivedAtMs: 1 },
		});
		await store.unit(function* (tx) {
			for (const id of ['n', 'm']) yield* tx.nodes.insert(nodeRow(id));
			yield* tx.nodeHealth.insertChange(change('a', 'm'), 2);
			for (const id of ['b', 'c', 'd']) yield* tx.nodeHealth.insertChange(change(id), 2);
			yield* tx.nodeHealth.insertChange({ ...change('e'), custody: 'tenant' }, 2);
			for (const id of ['b', 'c', 'd']) yield* tx.nodeHealth.insertEvidence(evidence(id), 2);
			for (const id of ['b', 'c', 'd']) yield* tx.healthFacts.insert(fact(id));
		});
		const ids = (rows: readonly { readonly id: string }[]) => rows.map(({ id }) => id);
		expect(await store.read((tx) => tx.nodeHealth.listChanges('n', 'platform', 9))).toEqual([change('d'), change('c')]);
		expect(ids(await store.read((tx) => tx.nodeHealth.listChanges('n', 'tenant', 9)))).toEqual(['e']);
		expect(ids(await store.read((tx) => tx.nodeHealth.listChanges('m', 'platform', 9)))).toEqual(['a']);
		expect(await store.read((tx) => tx.nodeHealth.evidenceAfter('n', '', 9))).toEqual([evidence('c'), evidence('d')]);
		expect(ids(await store.read((tx) => tx.nodeHealth.evidenceAfter('n', 'c', 9)))).toEqual(['d']);
		expect(ids(await store.read((tx) => tx.healthFacts.ofNodeAfter('n', 'b', 9)))).toEqual(['c', 'd']);
		expect(ids(await store.read((tx) => tx.healthFacts.ofNodeAfter('n', '', 1)))).toEqual(['b']);
	});

	test('a node has one override, which expires', async () => {
		await using world = await kind.create();
		const { store } = world;
		const override = (patch: Partial<HealthOverrideRow> = {}): HealthOverrideRow => ({
			...{ nodeId: 'n', schedulable: true, reason: 'r', createdBy: 'ada', createdAtMs: 1, expiresAtMs: 5, ...patch },
		});
		await store.unit(function* (tx) {
			yield* tx.nodes.insert(nodeRow('n'));
			yield* tx.nodeHealth.putOverride(override());
			yield* tx.nodeHealth.putOverride(override({ schedulable: false }));
		});
		expect(await store.read((tx) => tx.nodeHealth.overridesOf(['n', 'm']))).toEqual([override({ schedulable: false })]);
		expect(await store.read((tx) => tx.nodeHealth.overridesExpired(4, 9))).toEqual([]);
		expect(await store.read((tx) => tx.nodeHealth.overridesExpired(5, 9))).toHaveLength(1);
		expect(await store.unit((tx) => tx.nodeHealth.endOverride('n', 4))).toBe(false);
		expect(await store.unit((tx) => tx.nodeHealth.endOverride('n', 5))).toBe(true);
		await store.unit((tx) => tx.nodeHealth.putOverride(override()));
		expect(await store.unit((tx) => tx.nodeHealth.deleteOverride('n'))).toBe(true);
		expect(await store.unit((tx) => tx.nodeHealth.deleteOverride('n'))).toBe(false);
	});
});
