import { assert } from './assert.ts';
import { type Format, familyHeader, formatValue, type MetricType, seriesPrefix } from './exposition-text.ts';

/**
 * Prometheus text exposition 0.0.4 and OpenMetrics 1.0.0: counters, gauges, histograms, and callbacks that produce
 * samples at scrape time. Rendering only concatenates strings: everything before a sample's value is built once and
 * kept. Invariant: a family never has more than its `seriesMax` series; what would be more is counted in
 * `gpuaas_metrics_series_refused_total`, because an unbounded label takes down the monitoring of everything else.
 * Each process has one registry; ops/metrics and the agent's listener serve it.
 */
export interface FamilyOptions {
	/** With the unit: `gpuaas_link_reconnect_seconds`; a counter ends in `_total`. */
	readonly name: string;
	readonly help: string;
	readonly labelNames?: readonly string[];
	/** Default 1000. */
	readonly seriesMax?: number;
}

export interface HistogramOptions extends FamilyOptions {
	/** Upper bounds, rising, without +Inf. */
	readonly buckets: readonly number[];
}

export interface Counter {
	/** `amount` >= 0. */
	inc(amount?: number): void;
}

export interface Gauge {
	set(value: number): void;
	inc(amount?: number): void;
}

export interface Histogram {
	observe(value: number): void;
}

/** One family with labels: `of(...)` gives the series of these label values, the same object every time. */
export interface Family<Series> {
	/** Past `seriesMax` the answer takes values and shows nothing. */
	of(...labelValues: string[]): Series;
	/** Forgets a series: call it when what it describes is gone (a removed node). */
	remove(...labelValues: string[]): void;
}

/** Given one sample: its value, then the values of the family's labels in order. */
export type Emit = (value: number, ...labelValues: string[]) => void;

const METRIC_NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LABEL_NAME = /^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$/;
const SERIES_MAX = 1000;

/** Something that appends its families to the page. */
interface Block {
	readonly name: string;
	render(format: Format): string;
}

export class Registry {
	readonly #blocks = new Map<string, Block>();
	readonly #refused: Family<Counter>;

	constructor() {
		this.#refused = this.counter({
			name: 'gpuaas_metrics_series_refused_total',
			help: 'Series that were not created because their family was full.',
			labelNames: ['family'],
			// Bounded by the number of families in the code; a cap here would have to count itself.
			seriesMax: Number.MAX_SAFE_INTEGER,
		});
	}

	counter(options: FamilyOptions): Family<Counter> {
		assert(options.name.endsWith('_total'), `${options.name}: a counter's name ends in _total`);
		return this.#add(options, 'counter', (prefix) => new ValueSeries(prefix));
	}

	gauge(options: FamilyOptions): Family<Gauge> {
		return this.#add(options, 'gauge', (prefix) => new ValueSeries(prefix));
	}

	histogram(options: HistogramOptions): Family<Histogram> {
		const { buckets, labelNames = [] } = options;
		assert(
			buckets.every((bound, index) => Number.isFinite(bound) && bound > (buckets[index - 1] ?? -Infinity)),
			`${options.name}: buckets must rise`,
		);
		return this.#add(
			options,
			'histogram',
			(_, labelValues) => new HistogramSeries(options.name, labelNames, labelValues, buckets),
		);
	}

	/** A family whose samples exist only at scrape time. `callback` must be synchronous and cheap. */
	collect(options: FamilyOptions & { readonly type: 'counter' | 'gauge' }, callback: (emit: Emit) => void): void {
		const { name, type, help, labelNames = [], seriesMax = SERIES_MAX } = options;
		check(options);
		this.#put({
			name,
			render: (format) => {
				let page = familyHeader(name, type, help, format);
				let series = 0;
				callback((value, ...labelValues) => {
					series += 1;
					if (series > seriesMax) this.#refused.of(name).inc();
					else page += `${seriesPrefix(name, labelNames, labelValues)}${formatValue(value)}\n`;
				});
				return page;
			},
		});
	}

	/** The whole page. */
	render(format: Format = 'text'): string {
		let page = '';
		for (const block of this.#blocks.values()) page += block.render(format);
		return format === 'openmetrics' ? `${page}# EOF\n` : page;
	}

	#add<S extends Series>(
		options: FamilyOptions,
		type: MetricType,
		create: (prefix: string, labelValues: readonly string[]) => S,
	): Family<S> {
		check(options);
		const family = new SeriesFamily(options, type, create, () => this.#refused.of(options.name).inc());
		this.#put(family);
		return family;
	}

	#put(block: Block): void {
		assert(!this.#blocks.has(block.name), `${block.name} is already registered`);
		this.#blocks.set(block.name, block);
	}
}

interface Series {
	render(format: Format): string;
}

class SeriesFamily<S extends Series> implements Family<S>, Block {
	readonly name: string;
	readonly #options: FamilyOptions;
	readonly #type: MetricType;
	readonly #create: (prefix: string, labelValues: readonly string[]) => S;
	readonly #onRefused: () => void;
	readonly #series = new Map<string, S>();
	#spare: S | undefined;

	constructor(
		options: FamilyOptions,
		type: MetricType,
		create: (prefix: string, labelValues: readonly string[]) => S,
		onRefused: () => void,
	) {
		this.name = options.name;
		this.#options = options;
		this.#type = type;
		this.#create = create;
		this.#onRefused = onRefused;
	}

	of(...labelValues: string[]): S {
		const { name, labelNames = [], seriesMax = SERIES_MAX } = this.#options;
		const key = keyOf(labelNames, labelValues);
		const known = this.#series.get(key);
		if (known !== undefined) return known;
		const prefix = seriesPrefix(name, labelNames, labelValues);
		if (this.#series.size >= seriesMax) {
			this.#onRefused();
			this.#spare ??= this.#create(prefix, labelValues);
			return this.#spare;
		}
		const series = this.#create(prefix, labelValues);
		this.#series.set(key, series);
		return series;
	}

	remove(...labelValues: string[]): void {
		this.#series.delete(keyOf(this.#options.labelNames ?? [], labelValues));
	}

	render(format: Format): string {
		const { name, help, labelNames = [] } = this.#options;
		// A family without labels exists from the start, so that a counter shows 0 before its first event.
		if (labelNames.length === 0) this.of();
		let page = familyHeader(name, this.#type, help, format);
		for (const series of this.#series.values()) page += series.render(format);
		return page;
	}
}

/** Unambiguous whatever the values contain. */
function keyOf(labelNames: readonly string[], labelValues: readonly string[]): string {
	assert(labelValues.length === labelNames.length, `this family has the labels ${labelNames.join(', ') || '(none)'}`);
	if (labelValues.length === 1) return labelValues[0] ?? '';
	let key = '';
	for (const value of labelValues) key += `${value.length}:${value}`;
	return key;
}

class ValueSeries implements Counter, Gauge, Series {
	readonly #prefix: string;
	#value = 0;

	constructor(prefix: string) {
		this.#prefix = prefix;
	}

	set(value: number): void {
		this.#value = value;
	}

	inc(amount = 1): void {
		this.#value += amount;
	}

	render(): string {
		return `${this.#prefix}${formatValue(this.#value)}\n`;
	}
}

class HistogramSeries implements Histogram, Series {
	readonly #bounds: readonly number[];
	readonly #prefixes: readonly string[];
	readonly #sumPrefix: string;
	readonly #countPrefix: string;
	readonly #counts: Float64Array;
	#sum = 0;

	constructor(name: string, labelNames: readonly string[], labelValues: readonly string[], bounds: readonly number[]) {
		this.#bounds = bounds;
		this.#counts = new Float64Array(bounds.length + 1);
		// OpenMetrics wants `le="1.0"`; Prometheus takes that in the text format too.
		const les = [...bounds.map((bound) => (Number.isInteger(bound) ? bound.toFixed(1) : String(bound))), '+Inf'];
		this.#prefixes = les.map((le) => seriesPrefix(`${name}_bucket`, [...labelNames, 'le'], [...labelValues, le]));
		this.#sumPrefix = seriesPrefix(`${name}_sum`, labelNames, labelValues);
		this.#countPrefix = seriesPrefix(`${name}_count`, labelNames, labelValues);
	}

	observe(value: number): void {
		let index = 0;
		while (index < this.#bounds.length && value > (this.#bounds[index] as number)) index += 1;
		this.#counts[index] = (this.#counts[index] as number) + 1;
		this.#sum += value;
	}

	render(): string {
		let page = '';
		let total = 0;
		for (let index = 0; index < this.#prefixes.length; index += 1) {
			total += this.#counts[index] as number;
			page += `${this.#prefixes[index]}${total}\n`;
		}
		return `${page}${this.#sumPrefix}${formatValue(this.#sum)}\n${this.#countPrefix}${total}\n`;
	}
}

function check(options: FamilyOptions): void {
	assert(METRIC_NAME.test(options.name), `${options.name} is not a metric name`);
	for (const label of options.labelNames ?? [])
		assert(LABEL_NAME.test(label), `${options.name}: ${label} is not a label name`);
}
