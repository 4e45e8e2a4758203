import type { TelemetryMetric } from '../../proto/telemetry-schema/metric.ts';

/** Values of one thing in the order of its table. What is never set stays absent. */
export class Row {
	readonly values: Float64Array;
	readonly #positions: ReadonlyMap<string, number>;

	constructor(positions: ReadonlyMap<string, number>) {
		this.#positions = positions;
		this.values = new Float64Array(positions.size).fill(Number.NaN);
	}

	set(key: string, value: number): void {
		const at = this.#positions.get(key);
		if (at === undefined) throw new Error(`${key} has no position in its table`);
		this.values[at] = value;
	}
}

export function positionsOf(table: readonly TelemetryMetric[]): ReadonlyMap<string, number> {
	return new Map(table.map(({ key }, index) => [key, index]));
}
