import { create } from '@bufbuild/protobuf';
import { beforeEach, describe, expect, test } from 'vitest';
import { present } from '../../../kit/assert.ts';
import { type Clock, systemClock } from '../../../kit/clock.ts';
import { type HistoryAnswer, HistoryAnswerSchema } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { RollupChunk, Rollups } from '../../store/port/rollups.ts';
import { type CallerView, SEES_ALL, viewOfAssignments } from './caller-view.ts';
import { encodeChunk, MINUTE_MS } from './chunk.ts';
import { findHistory, findMetric, type HistoryQuestion } from './history.ts';
import { HistoryQueries } from './history-queries.ts';
import { LatestTelemetry } from './latest.ts';
import { TELEMETRY_LIMITS_DEFAULT } from './limits.ts';
import { ROLLUP_METRICS } from './rollup-metrics.ts';

/** History of one GPU from made-up chunks and ring answers. */
const DAY_MS = 86_400_000;
const START_MS = 20_000 * DAY_MS;
const KEY = 'temperature.gpu';
const COUNTER = 'ecc.volatile.corrected';

let chunks: RollupChunk[];
let reads: number;
let turns: number;
let answer: HistoryAnswer | undefined;
let queries: HistoryQueries;
beforeEach(() => {
	[chunks, reads, turns, answer] = [[], 0, 0, undefined];
	queries = new HistoryQueries(1);
});

const clock: Clock = {
	...systemClock,
	defer: (callback) => {
		turns += 1;
		systemClock.defer(callback);
	},
};

/** Every minute has the value, as average and as maximum. */
function addChunk(fromMs: number, minutes: number, valueIn: (minute: number) => number): void {
	const metric = present(
		ROLLUP_METRICS.find(({ part, key }) => part === 'gpu' && key === KEY),
		'it is kept',
	).id;
	const one = Array.from({ length: minutes }, (_, minute) => valueIn(minute));
	const values = Float32Array.from([...one, ...one]);
	const series = [{ subject: 'gpu/GPU-1', metric }];
	const blob = encodeChunk({ minutes, series, values, custody: 'platform', simulated: true });
	chunks.push({ nodeId: 'n', fromMs, untilMs: fromMs + minutes * MINUTE_MS, blob });
}

const rollups: Rollups = {
	append: async () => {},
	read: async (_nodeId, fromMs, untilMs, max) => {
		reads += 1;
		return chunks.filter((chunk) => chunk.fromMs < untilMs && chunk.untilMs > fromMs).slice(0, max);
	},
	trim: async () => 0,
	bytes: async () => 0,
	[Symbol.asyncDispose]: async () => {},
};

function ask(untilMs: number, view: CallerView = SEES_ALL, more: Partial<HistoryQuestion> = {}) {
	const telemetry = {
		...{ historyQueries: queries, rollups, writer: undefined },
		latest: new LatestTelemetry(systemClock, TELEMETRY_LIMITS_DEFAULT),
		rings: { ask: async () => answer },
	};
	const metrics = [present(findMetric('gpu', KEY), 'the metric')];
	const span = { fromMs: START_MS, untilMs, nowMs: untilMs, pointsMax: 1440 };
	const question = { nodeId: 'n', part: 'gpu' as const, id: '', metrics, ...span, ...more };
	return findHistory(clock, telemetry as unknown as Parameters<typeof findHistory>[1], question, view);
}

function heldFor(fromMs: number, untilMs: number): CallerView {
	const project = { organization: 'acme', project: 'train', mode: 'operator' as const, sliceId: '', generation: 1 };
	return viewOfAssignments([{ id: 'a', nodeId: 'n', ...project, fromMs, untilMs }]);
}

describe('a tenant sees', () => {
	test('no minute that was another’s in part', async () => {
		addChunk(START_MS, 10, (minute) => minute);
		const view = heldFor(START_MS + 3.5 * MINUTE_MS, START_MS + 7.5 * MINUTE_MS);
		const { series } = await ask(START_MS + DAY_MS, view);
		expect(series[0]?.steps.points().average).toEqual([4, 5, 6]);
		const whole = heldFor(START_MS + 3 * MINUTE_MS, START_MS + 8 * MINUTE_MS);
		expect((await ask(START_MS + DAY_MS, whole)).series[0]?.steps.points().average).toEqual([3, 4, 5, 6, 7]);
	});

	test('no point of the newest XID, which may be of another’s time', async () => {
		const series = [{ id: 'GPU-1', index: 0, key: 'xid.last', atMs: [BigInt(START_MS)], values: [79] }];
		answer = create(HistoryAnswerSchema, { series });
		const metrics = [present(findMetric('gpu', 'xid.last'), 'the metric')];
		const points = async (view: CallerView) => (await ask(START_MS + MINUTE_MS, view, { metrics })).series.length;
		expect(await points(SEES_ALL)).toBe(1);
		expect(await points(heldFor(START_MS - 1, START_MS + MINUTE_MS))).toBe(0);
	});

	test('no rate that began before the node was theirs', async () => {
		const untilMs = START_MS + MINUTE_MS;
		const at = [0, 15_000, 30_000, 45_000].map((ms) => BigInt(START_MS + ms));
		const series = [{ id: 'GPU-1', index: 0, key: COUNTER, atMs: at, values: [0, 150, 600, 600] }];
		answer = create(HistoryAnswerSchema, { series });
		const metrics = [present(findMetric('gpu', COUNTER), 'the metric')];
		const rates = async (view: CallerView) => (await ask(untilMs, view, { metrics })).series[0]?.steps.points().average;
		expect(await rates(SEES_ALL)).toEqual([10, 30, 0]);
		expect(await rates(heldFor(START_MS + 10_000, untilMs))).toEqual([30, 0]);
	});
});

describe('a long span', () => {
	test('is read in pieces, with other work between, and each minute counts once', async () => {
		// Windows of a day begin in the middle of a chunk.
		for (let chunk = 0; chunk < 432; chunk += 1)
			addChunk(START_MS - 5 * MINUTE_MS + chunk * 10 * MINUTE_MS, 10, () => chunk);
		const untilMs = START_MS + 3 * DAY_MS - 5 * MINUTE_MS;
		const { series } = await ask(untilMs, SEES_ALL, { pointsMax: 1 });
		const [average] = present(series[0], 'the series').steps.points().average;
		// The first chunk with its last five minutes, and each other whole.
		expect(average).toBeCloseTo((((431 * 432) / 2) * 10) / (5 + 431 * 10), 6);
		expect(reads).toBe(3);
		expect(turns).toBeGreaterThanOrEqual(Math.floor(432 / 100));
	});

	test('is refused while as many as are answered at once are asked', async () => {
		addChunk(START_MS, 10, () => 1);
		const first = ask(START_MS + DAY_MS);
		await expect(ask(START_MS + DAY_MS)).rejects.toMatchObject({
			code: 'RESOURCE_EXHAUSTED',
			reason: 'TELEMETRY_HISTORY_LIMIT',
		});
		await first;
		expect((await ask(START_MS + DAY_MS)).series).toHaveLength(1);
	});
});
