import { CHUNK_MINUTES_MAX, type Chunk, MINUTE_MS, type SeriesKey } from './chunk.ts';
import { ROLLUP_PARTS, type RollupMetric, rollupMetricsOf } from './rollup-metrics.ts';
import type { NodeSample, Row } from './sample.ts';

/**
 * The minutes of one node that aren't in a chunk on disk yet: average and maximum of each kept series. A chunk ends when
 * it is full, when minutes are missing, or when its custody or `simulated` changes, so that every value on disk is known
 * for whose word it was.
 */
/** A rate over a longer gap says nothing about this minute. */
const RATE_GAP_MS_MAX = 90_000;

interface MinuteValues {
	/** Average, then maximum of each series that existed by then. */
	readonly values: Float32Array;
}

export class NodeRoll {
	readonly #series: SeriesKey[] = [];
	/** Subject -> number of its first series. */
	readonly #subjects = new Map<string, number>();
	#minutes: MinuteValues[] = [];
	#fromMs = 0;
	#minuteMs = Number.NEGATIVE_INFINITY;
	#sum = new Float64Array(64);
	#count = new Float64Array(64);
	#max = new Float64Array(64);
	#length: number;
	#custody: NodeSample['custody'] = 'platform';
	#simulated = false;

	/** `firstMinutes`: how long the first chunk is, so that a fleet that started together doesn't write together. */
	constructor(firstMinutes: number) {
		this.#length = firstMinutes;
	}

	/** A chunk that this sample ended, if it did. */
	observe(sample: NodeSample, before: NodeSample | undefined): Chunk | undefined {
		const minuteMs = Math.floor(sample.receivedAtMs / MINUTE_MS) * MINUTE_MS;
		let ended: Chunk | undefined;
		if (this.#minuteMs !== minuteMs || this.#custody !== sample.custody || this.#simulated !== sample.simulated) {
			this.#endMinute();
			const goesOn =
				this.#minuteMs + MINUTE_MS === minuteMs &&
				this.#minutes.length < this.#length &&
				this.#custody === sample.custody &&
				this.#simulated === sample.simulated;
			if (!goesOn) {
				ended = this.#take();
				this.#fromMs = minuteMs;
				this.#custody = sample.custody;
				this.#simulated = sample.simulated;
			}
			this.#minuteMs = minuteMs;
		}
		for (const part of ROLLUP_PARTS) {
			const metrics = rollupMetricsOf(part);
			for (const row of sample.rows[part]) {
				const first = this.#firstOf(part === 'host' ? '' : `${part}/${row.id}`, metrics);
				this.#add(first, metrics, row, sample, before);
			}
		}
		return ended;
	}

	/** What is complete so far, and stays: for queries. */
	peek(): Chunk | undefined {
		return this.#minutes.length === 0 ? undefined : this.#chunk();
	}

	/** All of it, the unfinished minute too: at shutdown or silence. */
	end(): Chunk | undefined {
		this.#endMinute();
		this.#minuteMs = Number.NEGATIVE_INFINITY;
		return this.#take();
	}

	#firstOf(subject: string, metrics: readonly RollupMetric[]): number {
		const known = this.#subjects.get(subject);
		if (known !== undefined) return known;
		const first = this.#series.length;
		for (const { id } of metrics) this.#series.push({ subject, metric: id });
		this.#subjects.set(subject, first);
		if (this.#series.length > this.#sum.length) this.#grow();
		this.#max.fill(Number.NEGATIVE_INFINITY, first, this.#series.length);
		return first;
	}

	#add(
		first: number,
		metrics: readonly RollupMetric[],
		row: Row,
		sample: NodeSample,
		before: NodeSample | undefined,
	): void {
		for (let index = 0; index < metrics.length; index += 1) {
			const metric = metrics[index] as RollupMetric;
			const value = metric.isRate ? rateOf(metric, row, sample, before) : (row.values[metric.position] ?? Number.NaN);
			if (Number.isNaN(value)) continue;
			const slot = first + index;
			this.#sum[slot] = (this.#sum[slot] as number) + value;
			this.#count[slot] = (this.#count[slot] as number) + 1;
			if (value > (this.#max[slot] as number)) this.#max[slot] = value;
		}
	}

	#endMinute(): void {
		const { length } = this.#series;
		if (this.#minuteMs === Number.NEGATIVE_INFINITY || length === 0) return;
		const values = new Float32Array(length * 2);
		for (let slot = 0; slot < length; slot += 1) {
			const count = this.#count[slot] as number;
			values[slot * 2] = count === 0 ? Number.NaN : (this.#sum[slot] as number) / count;
			values[slot * 2 + 1] = count === 0 ? Number.NaN : (this.#max[slot] as number);
		}
		this.#sum.fill(0);
		this.#count.fill(0);
		this.#max.fill(Number.NEGATIVE_INFINITY);
		this.#minutes.push({ values });
	}

	#take(): Chunk | undefined {
		const chunk = this.#minutes.length === 0 ? undefined : this.#chunk();
		this.#minutes = [];
		this.#series.length = 0;
		this.#subjects.clear();
		this.#length = CHUNK_MINUTES_MAX;
		return chunk;
	}

	#chunk(): Chunk {
		const minutes = this.#minutes.length;
		const series = [...this.#series];
		const values = new Float32Array(series.length * 2 * minutes).fill(Number.NaN);
		for (const [minute, { values: from }] of this.#minutes.entries()) {
			for (let slot = 0; slot * 2 < from.length; slot += 1) {
				values[slot * 2 * minutes + minute] = from[slot * 2] as number;
				values[(slot * 2 + 1) * minutes + minute] = from[slot * 2 + 1] as number;
			}
		}
		const [custody, simulated] = [this.#custody, this.#simulated];
		return { fromMs: this.#fromMs, minutes, series, values, custody, simulated };
	}

	#grow(): void {
		const larger = (from: Float64Array) => {
			const to = new Float64Array(Math.max(this.#series.length, from.length * 2));
			to.set(from);
			return to;
		};
		this.#sum = larger(this.#sum);
		this.#count = larger(this.#count);
		this.#max = larger(this.#max);
	}
}

/** Of a counter, a second, since the sample before; absent after a reset and after a gap. */
function rateOf(metric: RollupMetric, row: Row, sample: NodeSample, before: NodeSample | undefined): number {
	if (before === undefined || before.schema !== sample.schema) return Number.NaN;
	const elapsedMs = sample.heardAtMs - before.heardAtMs;
	const last = before.rows[metric.part].find(({ id }) => id === row.id)?.values[metric.position] ?? Number.NaN;
	const now = row.values[metric.position] ?? Number.NaN;
	return elapsedMs > 0 && elapsedMs <= RATE_GAP_MS_MAX && now >= last ? ((now - last) * 1000) / elapsedMs : Number.NaN;
}
