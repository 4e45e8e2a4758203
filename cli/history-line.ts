import type { TelemetryHistorySeries } from '../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { metricText, rate } from './quantity.ts';
import { sparkline } from './sparkline.ts';

const SPARK_WIDTH = 60;

export function historyName({ key, id, index }: TelemetryHistorySeries): string {
	return [key, id, index === 0 ? '' : String(index)].filter((word) => word !== '').join(' ');
}

/** What was measured of one thing, a bar for each step or more; where nothing was measured is a gap, never a 0. */
export function historyLine(series: TelemetryHistorySeries, stepMs: number, nameWidth: number): string {
	const { key, atMs, average, maximum, unit, isRate } = series;
	const first = Number(atMs[0] ?? 0n);
	const cells: (number | undefined)[] = [];
	for (const [index, at] of atMs.entries()) {
		const cell = Math.round((Number(at) - first) / stepMs);
		while (cells.length < cell) cells.push(undefined);
		cells[cell] = average[index];
	}
	const mean = average.reduce((sum, value) => sum + value, 0) / Math.max(1, average.length);
	const text = (value: number) => (isRate ? rate(value, unit) : metricText(key, value, unit));
	const numbers = `mean ${text(mean)}, max ${text(Math.max(...maximum))}, last ${text(average.at(-1) ?? 0)}`;
	return `${historyName(series).padEnd(nameWidth)}  ${sparkline(cells, SPARK_WIDTH)}  ${numbers}`;
}
