import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { describe, expect, it } from 'vitest';
import { type HistoryQuery, HistoryQuerySchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { DISK_VALUES } from '../../proto/telemetry-schema/disk.ts';
import { GPU_VALUES } from '../../proto/telemetry-schema/gpu.ts';
import { NVLINK_VALUES } from '../../proto/telemetry-schema/links.ts';
import type { TelemetryPart } from '../../proto/telemetry-schema/schemas.ts';
import { answerHistory } from './history.ts';
import type { Part } from './part.ts';
import { TelemetryRing } from './ring.ts';

const START_MS = 1_700_000_000_000;
const AT = GPU_VALUES.findIndex(({ key }) => key === 'temperature.gpu');

function gpus(temperature: number, count = 2): readonly Part[] {
	return Array.from({ length: count }, (_, index) => {
		const values = new Float64Array(GPU_VALUES.length).fill(Number.NaN);
		values[AT] = temperature + index;
		return { id: `GPU-${index}`, index, values };
	});
}

function ringOf(
	moments: number,
	parts: (at: number) => readonly [TelemetryPart, readonly Part[]][],
	limits?: ConstructorParameters<typeof TelemetryRing>[0],
) {
	const ring = new TelemetryRing(limits);
	for (let at = 0; at < moments; at += 1) ring.add(START_MS + at * 1000, at * 1000, new Map(parts(at)));
	return ring;
}

function ask(ring: TelemetryRing, query: Omit<Partial<HistoryQuery>, '$typeName' | '$unknown'>) {
	return answerHistory(
		ring,
		create(HistoryQuerySchema, { queryId: 'q', part: 'gpu', keys: ['temperature.gpu'], ...query }),
		false,
	);
}

describe('an answer', () => {
	const ring = ringOf(10, (at) => [['gpu', gpus(40 + at)]]);

	it('has a series for each thing and key, in order, within the time asked for', () => {
		const { series, oldest } = ask(ring, {
			from: timestampFromMs(START_MS + 7000),
			until: timestampFromMs(START_MS + 8000),
		});
		expect(series).toMatchObject([
			{ id: 'GPU-0', key: 'temperature.gpu', values: [47, 48] },
			{ id: 'GPU-1', values: [48, 49] },
		]);
		expect(series[0]?.atMs).toEqual([BigInt(START_MS + 7000), BigInt(START_MS + 8000)]);
		expect(Number(oldest?.seconds) * 1000).toBe(START_MS);
	});

	it('is of one thing when it is named, and keeps what was absent absent', () => {
		const { series } = ask(ring, { id: 'GPU-1', keys: ['temperature.gpu', 'energy'] });
		expect(series.map(({ id, key }) => [id, key])).toEqual([
			['GPU-1', 'temperature.gpu'],
			['GPU-1', 'energy'],
		]);
		expect(series[1]?.values.every(Number.isNaN)).toBe(true);
	});

	it('is thinned to the points asked for, with the newest kept', () => {
		expect(ask(ring, { id: 'GPU-0', pointsMax: 3 }).series[0]?.values).toEqual([42, 45, 49]);
	});

	it('says why there is none', () => {
		expect(ask(ring, { part: 'toString' }).refusal).toBe('there is no part "toString"');
		expect(ask(ring, { keys: ['nope'] }).refusal).toBe('gpu has no "nope"');
		const links = Array.from({ length: 200 }, (_, index) => ({
			id: 'GPU-0',
			index,
			values: new Float64Array(NVLINK_VALUES.length),
		}));
		const many = ringOf(3, () => [['nvlink', links]]);
		expect(ask(many, { part: 'nvlink', keys: ['up'] }).refusal).toContain('more than 192 series');
		expect(ask(many, { part: 'nvlink', keys: ['up'], id: 'GPU-0', index: 3 }).series).toMatchObject([
			{ index: 3, values: [0, 0, 0] },
		]);
	});
});

describe('the ring', () => {
	it('forgets what is older than it keeps', () => {
		const ring = ringOf(1000, (at) => [['gpu', gpus(at)]], { keepMs: 100_000, bytesMax: 1e9 });
		expect([...ring.moments()]).toHaveLength(101);
		expect(ring.oldestAtMs).toBe(START_MS + 899_000);
	});

	it('stays within its bytes, however fast it is filled', () => {
		const ring = ringOf(5000, (at) => [['gpu', gpus(at, 8)]], { keepMs: 1e9, bytesMax: 200_000 });
		expect(ring.bytes).toBeLessThanOrEqual(200_000);
		expect([...ring.moments()].length).toBeGreaterThan(20);
	});

	it('has nothing that was too old when it was sampled: an hourly temperature is no line of an hour', () => {
		const disk = (ageSeconds: number): Part => {
			const values: Readonly<Record<string, number>> = { wear: 0.09, 'smart.temperature': 34, 'smart.age': ageSeconds };
			return { id: 'S1', index: 0, values: Float64Array.from(DISK_VALUES, ({ key }) => values[key] ?? Number.NaN) };
		};
		const ring = ringOf(4, (at) => [['disk', [disk(at * 120)]]]);
		const { series } = ask(ring, { part: 'disk', keys: ['smart.temperature', 'wear', 'smart.age'] });
		expect(series.map(({ values }) => values)).toEqual([
			[34, 34, 34, Number.NaN],
			[0.09, 0.09, 0.09, 0.09],
			[0, 120, 240, 360],
		]);
	});

	it('shares the names of what stays the same', () => {
		const moments = [...ringOf(3, (at) => [['gpu', gpus(at, at === 2 ? 1 : 2)]]).moments()];
		const names = moments.map(({ blocks }) => blocks.get('gpu')?.names);
		expect(names[1]).toBe(names[0]);
		expect(names[2]).toEqual([{ id: 'GPU-0', index: 0 }]);
	});
});
