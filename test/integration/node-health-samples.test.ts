import { create } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodeLine } from '../../cli/health/records.ts';
import { recordLine } from '../../cli/verbs/node-health.ts';
import { QUARANTINE_LIMITS_DEFAULT } from '../../control-plane/app/health/quarantine.ts';
import type { NodeRow } from '../../control-plane/store/port/nodes.ts';
import { DEFAULT_POLICY } from '../../health/default-policy.ts';
import { NodeHealth } from '../../health/engine.ts';
import { parsePolicy } from '../../health/parse-policy.ts';
import { present } from '../../kit/assert.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { HealthClearing } from '../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { HealthFactKind, HistoryAnswerSchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { GPU_0, HealthWorld } from './health-world.ts';

/** What a node's record lets be replayed, and the circuit breaker of a fault domain. */
let world: HealthWorld;
beforeAll(async () => {
	world = await HealthWorld.start();
});
afterAll(() => world[Symbol.asyncDispose]());

const wellNode = () => world.addWellNode();
const replayed = (lines: readonly unknown[]) => {
	const health = new NodeHealth(parsePolicy(DEFAULT_POLICY), { judgesSilence: false });
	for (const line of lines) health.observe(decodeLine(JSON.stringify(line), 'a line').observation);
	return health.verdicts(world.clock.now());
};

describe('recorded samples', () => {
	/** A port whose errors rise by 100 in a minute, and one that stands still, each with a point each 15 s. */
	function ringOfPorts(): void {
		world.ring = (nodeId, { queryId = '', part, keys = [] }) => {
			const from = world.clock.now() - 600_000;
			const atMs = Array.from({ length: 40 }, (_, step) => BigInt(from + step * 15_000));
			const of = (id: string, rise: number) => ({
				id,
				index: 1,
				key: 'errors.symbol_error',
				atMs,
				values: atMs.map((_, step) => step * rise),
			});
			const series =
				part === 'ibPort' && keys.includes('errors.symbol_error') ? [of('mlx5_0', 25), of('mlx5_1', 0)] : [];
			world.api.deps.telemetry.rings.answer(nodeId, create(HistoryAnswerSchema, { queryId, schema: 2, series }));
			return true;
		};
	}
	test('let what rules read in frames be replayed, with links and ports only where something rose', async () => {
		const node = await wellNode();
		ringOfPorts();
		const { records, samplesFrom } = await world.operator.getNodeHealthRecords({ node: node.id });
		world.ring = undefined;
		expect(samplesFrom).toBeDefined();
		const parts = records.flatMap(({ record }) => (record.case === 'sample' ? record.value.parts : []));
		expect(parts).toHaveLength(40);
		expect(new Set(parts.map(({ subject }) => subject?.id))).toEqual(new Set(['mlx5_0']));
		const verdicts = replayed(records.map((record) => recordLine(node.name, record)));
		const port = verdicts.find(({ subject }) => subject.id === 'mlx5_0');
		expect(port).toMatchObject({ state: 'UNHEALTHY', reasons: [{ checkId: 'ib.symbol_errors' }] });
	});

	test('are none from before the node was handed over, and none where the agent is away', async () => {
		const node = await wellNode();
		expect((await world.operator.getNodeHealthRecords({ node: node.id })).samplesFrom).toBeUndefined();
		const nowMs = world.clock.now();
		await world.api.deps.store.unit((tx) =>
			tx.assignments.insert({
				...{ id: uuidv7(nowMs, world.api.deps.rng), nodeId: node.id, sliceId: '', mode: 'host' as const },
				...{ organization: 'acme', project: 'train', generation: 1, fromMs: nowMs - 300_000, untilMs: null },
			}),
		);
		ringOfPorts();
		const { samplesFrom } = await world.operator.getNodeHealthRecords({ node: node.id });
		world.ring = undefined;
		expect(timestampMs(present(samplesFrom, 'some'))).toBeGreaterThanOrEqual(nowMs - 300_000);
	});
});

describe('recorded evidence', () => {
	test('ends in a replay what it ended, and nothing that came after its task began', async () => {
		const node = await wellNode();
		await world.xid(node, 119);
		world.clock.advance(1000);
		const taskId = await world.passedTask(node);
		world.clock.advance(300_000);
		await world.fact(node, { kind: HealthFactKind.ECC_UNCORRECTED, raw: 'ecc.volatile.uncorrected 0 -> 1' });
		await world.evidence(node, HealthClearing.GPU_RESET, taskId);
		const { records } = await world.operator.getNodeHealthRecords({ node: node.id });
		const gpu = present(
			replayed(records.map((record) => recordLine(node.name, record))).find(({ subject }) => subject.id === GPU_0),
			'a verdict of the GPU',
		);
		expect([gpu.state, gpu.reasons.map(({ checkId }) => checkId)]).toEqual(['UNHEALTHY', ['ecc.uncorrected']]);
		// As it was judged; that the agent is silent is no record.
		const live = (await world.gpuOf(node)).reasons.map(({ checkId }) => checkId);
		expect(live.filter((check) => check !== 'silence')).toEqual(['ecc.uncorrected']);
	});
});

describe('the circuit breaker', () => {
	test('of a fault domain keeps a broken rack from being emptied, and leaves room for the others', async () => {
		const limits = { ...QUARANTINE_LIMITS_DEFAULT, percentMax: 100, domainLabel: 'rack', domainPercentMax: 50 };
		await using other = await HealthWorld.start({ quarantine: limits });
		const addTo = async (rack: string, count: number) => {
			const nodes: NodeRow[] = [];
			while (nodes.length < count) nodes.push(await other.addWellNode({ labels: { rack } }));
			return nodes;
		};
		const [broken, elsewhere] = [await addTo('r1', 4), await addTo('r2', 2)];
		for (const node of [...broken, ...elsewhere.slice(0, 1)]) await other.xid(node, 79);
		other.clock.advance(10_000);
		await other.look();
		const inQuarantine = async (nodes: readonly NodeRow[]) => {
			const rows = await other.api.deps.store.read((tx) => tx.nodeHealth.ofNodes(nodes.map(({ id }) => id)));
			return rows.filter(({ quarantinedAtMs }) => quarantinedAtMs !== null).length;
		};
		expect([await inQuarantine(broken), await inQuarantine(elsewhere)]).toEqual([2, 1]);
		expect(other.monitor.isBreakerOpen).toBe(true);
	});
});
