/**
 * Points of one series, gathered into steps of equal length: the average of what fell into a step, and the most. From
 * rings come single values, from rollups a minute's average and maximum; both are averages of some time, so they mix.
 */
export class HistorySteps {
	readonly #fromMs: number;
	readonly #stepMs: number;
	readonly #sum: Float64Array;
	readonly #count: Uint32Array;
	readonly #max: Float64Array;

	constructor(fromMs: number, untilMs: number, stepMs: number) {
		this.#fromMs = fromMs;
		this.#stepMs = stepMs;
		const steps = Math.max(1, Math.ceil((untilMs - fromMs) / stepMs));
		this.#sum = new Float64Array(steps);
		this.#count = new Uint32Array(steps);
		this.#max = new Float64Array(steps).fill(Number.NEGATIVE_INFINITY);
	}

	add(atMs: number, average: number, maximum: number): void {
		const step = Math.floor((atMs - this.#fromMs) / this.#stepMs);
		if (Number.isNaN(average) || step < 0 || step >= this.#sum.length) return;
		this.#sum[step] = (this.#sum[step] as number) + average;
		this.#count[step] = (this.#count[step] as number) + 1;
		if (maximum > (this.#max[step] as number)) this.#max[step] = maximum;
	}

	get isEmpty(): boolean {
		return this.#count.every((count) => count === 0);
	}

	/** Ascending; steps without a value are left out. */
	points(): { readonly atMs: bigint[]; readonly average: number[]; readonly maximum: number[] } {
		const points = { atMs: [] as bigint[], average: [] as number[], maximum: [] as number[] };
		for (let step = 0; step < this.#sum.length; step += 1) {
			const count = this.#count[step] as number;
			if (count === 0) continue;
			points.atMs.push(BigInt(Math.round(this.#fromMs + step * this.#stepMs)));
			points.average.push((this.#sum[step] as number) / count);
			points.maximum.push(this.#max[step] as number);
		}
		return points;
	}
}

/** Whole seconds that people read well, at least `leastMs`, so that a span has at most `pointsMax` steps. */
export function stepOf(spanMs: number, pointsMax: number, leastMs: number): number {
	const wanted = Math.max(leastMs, spanMs / pointsMax);
	for (const seconds of [1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400])
		if (seconds * 1000 >= wanted) return seconds * 1000;
	return Math.ceil(wanted / 14_400_000) * 14_400_000;
}
