import type { TelemetryMetric } from './metric.ts';

/**
 * How old values are that are read less often than the frames that carry them (`asOf` of their metric), and which of them
 * are too old to stand for now. Both sides ask here: the agent before it remembers, the control plane before it exports.
 */
interface Aged {
	readonly index: number;
	readonly ageIndex: number;
	readonly exportedForSeconds: number;
}

interface Ages {
	readonly aged: readonly Aged[];
	/** Positions that are ages. */
	readonly ages: ReadonlySet<number>;
}

const AGES = new WeakMap<readonly TelemetryMetric[], Ages>();

/** Whether any value of this table may be older than its frame. */
export function hasAges(table: readonly TelemetryMetric[]): boolean {
	return agesOf(table).aged.length > 0;
}

/** Seconds at the moment of the frame, of the value at this position. Undefined: measured with the frame, or not known. */
export function ageSecondsOf(
	table: readonly TelemetryMetric[],
	values: Float64Array,
	index: number,
): number | undefined {
	const aged = agesOf(table).aged.find((one) => one.index === index);
	const seconds = aged && values[aged.ageIndex];
	return seconds === undefined || Number.isNaN(seconds) ? undefined : seconds;
}

/** Whether this position is the age of others. */
export function isAge(table: readonly TelemetryMetric[], index: number): boolean {
	return agesOf(table).ages.has(index);
}

/** Without those that are too old to be exported; the same object where there is none. */
export function withoutOld(table: readonly TelemetryMetric[], values: Float64Array): Float64Array {
	let kept = values;
	for (const { index, ageIndex, exportedForSeconds } of agesOf(table).aged) {
		// An age that isn't known is none that is good enough.
		if (Number.isNaN(values[index]) || (values[ageIndex] ?? Number.NaN) <= exportedForSeconds) continue;
		if (kept === values) kept = Float64Array.from(values);
		kept[index] = Number.NaN;
	}
	return kept;
}

/** The same values when so many seconds have passed; the same object where none has an age. */
export function laterBy(table: readonly TelemetryMetric[], values: Float64Array, seconds: number): Float64Array {
	const { ages } = agesOf(table);
	if (ages.size === 0 || seconds === 0) return values;
	return values.map((value, index) => (ages.has(index) ? value + seconds : value));
}

function agesOf(table: readonly TelemetryMetric[]): Ages {
	let ages = AGES.get(table);
	if (ages === undefined) {
		const positions = new Map(table.map(({ key }, index) => [key, index]));
		const aged = table.flatMap(({ asOf }, index) =>
			asOf === undefined
				? []
				: [{ index, ageIndex: positions.get(asOf.ageKey) ?? -1, exportedForSeconds: asOf.exportedForSeconds }],
		);
		ages = { aged, ages: new Set(aged.map(({ ageIndex }) => ageIndex)) };
		AGES.set(table, ages);
	}
	return ages;
}
