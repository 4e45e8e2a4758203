import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { TelemetryHistorySeriesSchema } from '../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { historyLine, historyName } from './history-line.ts';

const STEP_MS = 15_000;
const series = (more: object) =>
	create(TelemetryHistorySeriesSchema, {
		key: 'power.usage',
		id: 'GPU-1',
		unit: 'watts',
		// Nothing of the third and fourth step.
		atMs: [0, 1, 4, 5].map((step) => BigInt(1_700_000_000_000 + step * STEP_MS)),
		average: [100, 200, 300, 400],
		maximum: [150, 650, 350, 450],
		...more,
	});

test('a line of history has a gap where nothing was measured, and its highest, not its highest average', () => {
	expect(historyLine(series({}), STEP_MS, 20)).toBe('power.usage GPU-1     ▁▃  ▆█  mean 250 W, max 650 W, last 400 W');
});

test('a counter is shown as its rate', () => {
	expect(historyLine(series({ unit: 'joules', isRate: true }), STEP_MS, 0)).toMatch(
		/mean 250 W, max 650 W, last 400 W$/,
	);
	expect(historyLine(series({ unit: 'bytes', isRate: true }), STEP_MS, 0)).toMatch(/last 400 B\/s$/);
});

test('links of one GPU have their number, the first has none', () => {
	expect([0, 3].map((index) => historyName(series({ index })))).toEqual(['power.usage GPU-1', 'power.usage GPU-1 3']);
});

test('a moment stays one over its history', () => {
	const [at, average] = [[0n], [1_764_237_601]];
	const boot = series({ key: 'boot.time', id: '', unit: 'seconds', atMs: at, average, maximum: average });
	expect(historyLine(boot, STEP_MS, 0)).toMatch(/last 2025-11-27T10:00:01Z$/);
});
