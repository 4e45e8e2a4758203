import { create, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { beforeEach, describe, expect, test } from 'vitest';
import { present } from '../../../kit/assert.ts';
import { silentLogger } from '../../../kit/log.ts';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import {
	GpuProcessSchema,
	InventorySchema,
	PartSampleSchema,
	type TelemetryFrame,
} from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { CURRENT_SCHEMA } from '../../../proto/telemetry-schema/schemas.ts';
import type { NodeEntry } from './directory.ts';
import { type FixtureFrameOptions, fixtureFrame, fixtureInventory } from './frames-fixture.ts';
import { identitiesOf } from './identities.ts';
import { TelemetryIngest } from './ingest.ts';
import { TELEMETRY_LIMITS_DEFAULT } from './limits.ts';
import type { NodeSample } from './sample.ts';

const NODE = '01930000-0000-7000-8000-000000000001';
let clock: VirtualClock;
let ingest: TelemetryIngest;
let entries: Map<string, NodeEntry>;
let onChange: (nodeId: string) => void;
let heard: NodeSample[];
let silent: string[];

function entry(custody: NodeEntry['node']['custody'] = 'platform'): NodeEntry {
	const node = { id: NODE, name: 'gpu-1', hostname: 'gpu-1', custody, generation: 1, labels: {}, bootId: '' };
	return { node, assignments: [], identities: identitiesOf(toBinary(InventorySchema, fixtureInventory())) };
}

beforeEach(() => {
	clock = new VirtualClock();
	entries = new Map([[NODE, entry()]]);
	heard = [];
	silent = [];
	const directory = {
		get: (id: string) => entries.get(id),
		onChange: (listener: typeof onChange) => {
			onChange = listener;
			return () => {};
		},
	};
	ingest = new TelemetryIngest({ clock, log: silentLogger, directory, limits: TELEMETRY_LIMITS_DEFAULT });
	ingest.listen({ onSample: (sample) => heard.push(sample), onSilence: (nodeId) => silent.push(nodeId) });
});

const frame = (options: Partial<FixtureFrameOptions> = {}) => fixtureFrame({ atMs: clock.now(), ...options });
const position = (part: 'gpu' | 'host' | 'gpuSlow', key: string) =>
	CURRENT_SCHEMA[part].findIndex((metric) => metric.key === key);
const refused = (key: string) => new Map<string, number>(ingest.refused).get(key) ?? 0;
const newest = () => present(ingest.latest.get(NODE), 'a sample');

describe('a good frame', () => {
	test('becomes the newest sample, with the custody of now, and everybody hears of it', () => {
		ingest.ingest(NODE, frame());
		expect(newest()).toMatchObject({ nodeId: NODE, custody: 'platform', simulated: true, dropped: 0 });
		expect(newest().rows.gpu).toHaveLength(8);
		expect(heard).toEqual([newest()]);
		entries.set(NODE, entry('tenant'));
		ingest.ingest(NODE, frame());
		expect(newest().custody).toBe('tenant');
		expect([...ingest.refused]).toEqual([]);
	});

	test('of a node that is not known yet is trusted least', () => {
		entries.clear();
		ingest.ingest(NODE, frame());
		expect(newest().custody).toBe('transit');
	});

	test('keeps what is measured less often, until that is too old or its GPU does not answer', () => {
		ingest.ingest(NODE, frame());
		clock.advance(15_000);
		const fewer = frame({ hasSlow: false });
		fewer.gpus.pop();
		ingest.ingest(NODE, fewer);
		expect(newest().rows.gpuSlow.map(({ id }) => id)).toEqual(newest().rows.gpu.map(({ id }) => id));
		expect(newest().rows.gpuSlow).toHaveLength(7);
		for (let turn = 0; turn < 5; turn += 1) {
			clock.advance(15_000);
			ingest.ingest(NODE, frame({ hasSlow: false }));
		}
		expect(newest().rows.gpuSlow).toEqual([]);
	});

	test('with no GPU in it hides all that was known of GPUs: a hung driver shows nothing old', () => {
		ingest.ingest(NODE, frame());
		const hung = frame({ hasSlow: false });
		hung.gpus = [];
		ingest.ingest(NODE, hung);
		expect(newest().rows).toMatchObject({ gpu: [], gpuSlow: [], nvlink: [] });
		expect(newest().rows.host).toHaveLength(1);
	});
});

describe('a bad frame is refused, counted by its reason, and changes nothing', () => {
	const cases: readonly (readonly [string, (good: TelemetryFrame) => void])[] = [
		['schema_unknown', (bad) => Object.assign(bad, { schema: 999 })],
		['values_length', (bad) => bad.values.pop()],
		['values_length', (bad) => bad.values.push(1)],
		['timestamp_missing', (bad) => Object.assign(bad, { at: undefined })],
		['timestamp_future', (bad) => Object.assign(bad, { at: timestampFromMs(clock.now() + 301_000) })],
		['timestamp_ancient', (bad) => Object.assign(bad, { at: timestampFromMs(clock.now() - 301_000) })],
		['timestamp_ancient', (bad) => Object.assign(bad, { at: timestampFromMs(0) })],
	];
	for (const [reason, spoil] of cases) {
		test(`${reason}: ${spoil}`, () => {
			clock.advance(1e12);
			ingest.ingest(NODE, frame());
			const before = newest();
			const bad = frame();
			spoil(bad);
			ingest.ingest(NODE, bad);
			expect(refused(`frame/${reason}`)).toBe(1);
			expect(ingest.refusalOf(NODE)).toEqual({ reason, ageMs: 0 });
			expect(newest()).toBe(before);
			expect(heard).toHaveLength(1);
		});
	}

	test('a hundred times the rate: the burst is taken, the rest refused, others are not touched', () => {
		for (let count = 0; count < 2000; count += 1) ingest.ingest(NODE, frame({ gpus: 1 }));
		expect(heard).toHaveLength(TELEMETRY_LIMITS_DEFAULT.framesBurstMax);
		expect(refused('frame/rate')).toBe(2000 - TELEMETRY_LIMITS_DEFAULT.framesBurstMax);
		ingest.ingest(NODE.replace(/1$/, '2'), frame());
		expect(heard).toHaveLength(TELEMETRY_LIMITS_DEFAULT.framesBurstMax + 1);
		clock.advance(1000);
		ingest.ingest(NODE, frame());
		expect(heard).toHaveLength(TELEMETRY_LIMITS_DEFAULT.framesBurstMax + 2);
	});
});

describe('a value or a row that is wrong is left out alone', () => {
	test('NaN is absent; what no hardware can measure becomes absent and is counted', () => {
		const bad = frame();
		const [gpu] = bad.gpus;
		const values = present(gpu, 'a GPU').values;
		values[position('gpu', 'temperature.gpu')] = 9000;
		values[position('gpu', 'power.usage')] = Number.POSITIVE_INFINITY;
		values[position('gpu', 'memory.used')] = -1;
		values[position('gpu', 'utilisation.gpu')] = Number.NaN;
		ingest.ingest(NODE, bad);
		const [row] = newest().rows.gpu;
		for (const key of ['temperature.gpu', 'power.usage', 'memory.used', 'utilisation.gpu'])
			expect(row?.values[position('gpu', key)], key).toBeNaN();
		expect(row?.values[position('gpu', 'clock.sm')]).toBeGreaterThan(0);
		expect([refused('value/absurd'), refused('value/not_finite')]).toEqual([2, 1]);
	});

	test('a row of another length, twice the same, or with a name that is no name', () => {
		const bad = frame();
		const [first, second, third] = bad.gpus;
		present(first, 'a GPU').values.pop();
		bad.gpus.push(present(second, 'a GPU'));
		present(third, 'a GPU').id = 'GPU\n{evil="1"}';
		ingest.ingest(NODE, bad);
		expect(newest().rows.gpu).toHaveLength(6);
		for (const reason of ['values_length', 'duplicate', 'id_invalid']) expect(refused(`row/${reason}`), reason).toBe(1);
	});

	test('one GPU under many indices is one GPU; links of a GPU are told apart by theirs', () => {
		const bad = frame({ gpus: 1 });
		const gpu = present(bad.gpus[0], 'a GPU');
		for (let index = 1; index <= 100; index += 1)
			bad.gpus.push(create(PartSampleSchema, { id: gpu.id, index, values: [...gpu.values] }));
		bad.nvlinks = [0, 1, 1].map((index) =>
			create(PartSampleSchema, { id: gpu.id, index, values: CURRENT_SCHEMA.nvlink.map(() => 1) }),
		);
		ingest.ingest(NODE, bad);
		expect(newest().rows.gpu.map(({ index }) => index)).toEqual([0]);
		expect(newest().rows.nvlink.map(({ index }) => index)).toEqual([0, 1]);
		expect(refused('row/duplicate')).toBe(101);
	});

	test('ten thousand invented ids: a few are taken an hour, and never more series than a node may have', () => {
		const { strangeIdsPerHourMax, seriesPerNodeMax } = TELEMETRY_LIMITS_DEFAULT;
		const ids = new Set<string>();
		const invent = (from: number) => {
			const bad = frame({ gpus: 0 });
			bad.disks = Array.from({ length: 500 }, (_, index) =>
				create(PartSampleSchema, { id: `disk-${from + index}`, values: CURRENT_SCHEMA.disk.map(() => 1) }),
			);
			ingest.ingest(NODE, bad);
			for (const { id } of newest().rows.disk) ids.add(id);
		};
		for (let from = 0; from < 10_000; from += 500) {
			clock.advance(15_000);
			invent(from);
		}
		expect(ids.size).toBe(strangeIdsPerHourMax);
		expect(refused('row/id_unknown') + refused('row/series_limit')).toBe(10_000 - strangeIdsPerHourMax);
		clock.advance(3_600_001);
		invent(20_000);
		expect(ids.size).toBe(2 * strangeIdsPerHourMax);
		const large = frame();
		large.nvlinks = Array.from({ length: 2304 }, (_, index) =>
			create(PartSampleSchema, {
				id: present(large.gpus[0], 'a GPU').id,
				index,
				values: CURRENT_SCHEMA.nvlink.map(() => 1),
			}),
		);
		clock.advance(15_000);
		ingest.ingest(NODE, large);
		const series = Object.values(newest().rows).flatMap((rows) => rows.flatMap(({ values }) => [...values]));
		expect(series.length).toBeLessThanOrEqual(seriesPerNodeMax);
		expect(series.length).toBeGreaterThan(seriesPerNodeMax - 100);
	});
});

describe('silence', () => {
	test('is told once a node, after the sample is stale, and again after it spoke', () => {
		ingest.ingest(NODE, frame());
		clock.advance(30_000);
		ingest.sweep();
		expect(silent).toEqual([]);
		clock.advance(5000);
		ingest.sweep();
		ingest.sweep();
		expect(silent).toEqual([NODE]);
		expect(ingest.latest.fresh(NODE)).toBeUndefined();
		ingest.ingest(NODE, frame());
		clock.advance(60_000);
		ingest.sweep();
		expect(silent).toEqual([NODE, NODE]);
	});

	test('a removed node is forgotten at once', () => {
		ingest.ingest(NODE, frame());
		entries.delete(NODE);
		onChange(NODE);
		expect(silent).toEqual([NODE]);
		expect(ingest.latest.get(NODE)).toBeUndefined();
	});
});

describe('processes', () => {
	const ID = '01930000-0000-7000-8000-0000000000aa';
	const said = (gpu: string, pid: number, more: object = {}) => ({ gpu, pid, taskId: '', terminalId: '', ...more });
	const withProcesses = (processes: readonly object[], options: Partial<FixtureFrameOptions> = {}) => {
		const made = frame(options);
		made.gpuProcesses = processes.map((one) => create(GpuProcessSchema, one));
		return made;
	};
	const gpus = () => frame().gpus.map(({ id }) => id);

	test('are kept with the slow values, and go with their GPU', () => {
		const [first = '', last = ''] = [gpus().at(0), gpus().at(-1)];
		ingest.ingest(NODE, withProcesses([said(first, 7, { memoryBytes: 1024, taskId: ID }), said(last, 8)]));
		expect(newest().processes).toEqual({
			processes: [
				{ gpu: first, pid: 7, memoryBytes: 1024, smUtilisation: Number.NaN, taskId: ID, terminalId: '' },
				{ gpu: last, pid: 8, memoryBytes: Number.NaN, smUtilisation: Number.NaN, taskId: '', terminalId: '' },
			],
			leftOut: 0,
		});
		clock.advance(15_000);
		const fewer = frame({ hasSlow: false });
		fewer.gpus.pop();
		ingest.ingest(NODE, fewer);
		expect(newest().processes?.processes.map(({ pid }) => pid)).toEqual([7]);
		clock.advance(15_000);
		ingest.ingest(NODE, frame());
		expect(newest().processes).toBeUndefined();
	});

	test('of strange GPUs, twice the same and with ids that are none are refused; absurd values are absent', () => {
		const [gpu = ''] = gpus();
		ingest.ingest(
			NODE,
			withProcesses([
				said(gpu, 1, { memoryBytes: -1, smUtilisation: 7 }),
				said(gpu, 1),
				said('GPU-strange', 2),
				said(gpu, 3, { taskId: '\u001b[2J' }),
				said(gpu, 4, { memoryBytes: Number.POSITIVE_INFINITY }),
			]),
		);
		expect(
			newest().processes?.processes.map(({ pid, memoryBytes, smUtilisation }) => [pid, memoryBytes, smUtilisation]),
		).toEqual([1, 4].map((pid) => [pid, Number.NaN, Number.NaN]));
		expect(['row/duplicate', 'row/id_unknown', 'row/id_invalid'].map(refused)).toEqual([1, 1, 1]);
	});

	test('are bounded, and what is past the bound is counted', () => {
		const [gpu = ''] = gpus();
		ingest.ingest(NODE, withProcesses(Array.from({ length: 300 }, (_, pid) => said(gpu, pid))));
		expect([newest().processes?.processes.length, newest().processes?.leftOut]).toEqual([256, 44]);
	});
});
