/**
 * One position of a telemetry table. Both sides read the tables: the agent writes values in their order, the control
 * plane checks, names and exports them. On the wire and in memory a value is in its base unit (seconds, bytes, hertz,
 * watts, joules, degrees Celsius, ratio 0-1); NaN is absent: a source that isn't there, or says "not supported", is not 0.
 */
export interface TelemetryMetric {
	/** What the agent calls it, and `telemetry query` takes. */
	readonly key: string;
	/** Prometheus name: base unit, `_total` for counters. Positions in a row may share one name and differ in labels. */
	readonly name: string;
	readonly type: 'counter' | 'gauge';
	readonly unit: MetricUnit;
	readonly help: string;
	/** Where it comes from: an NVML call or field ("FI 83"), a file of the kernel. */
	readonly source: string;
	/** Constant labels of this position. */
	readonly labels?: Readonly<Record<string, string>>;
	/** Values outside are refused as absurd. */
	readonly min: number;
	readonly max: number;
	/** The name that dcgm-exporter gives it, where it has one. */
	readonly dcgm?: DcgmMetric;
	/** Of a value that is read less often than the frames that carry it. */
	readonly asOf?: AsOf;
}

export interface AsOf {
	/** The position of the same row that has its age, in seconds. */
	readonly ageKey: string;
	/** Older than this, or of no known age, it stands for nothing now: it is shown with its age, and exported no more. */
	readonly exportedForSeconds: number;
}

export type MetricUnit =
	| 'seconds'
	| 'bytes'
	| 'bytes_per_second'
	| 'hertz'
	| 'watts'
	| 'joules'
	| 'celsius'
	| 'ratio'
	/** A number of things. */
	| 'count'
	/** 0 or 1. */
	| 'bool'
	/** A number whose meaning the help text lists. */
	| 'state'
	| 'bitmask';

export interface DcgmMetric {
	/** As in dcgm-exporter's default-counters.csv. */
	readonly name: string;
	readonly type: 'counter' | 'gauge';
	readonly help: string;
	/** What it multiplies our value with. */
	readonly factor: number;
	/** How it makes it whole; absent: it doesn't. */
	readonly whole?: 'floor' | 'round';
}

const BOUNDS: Readonly<Record<MetricUnit, readonly [number, number]>> = {
	seconds: [0, 1e13],
	bytes: [0, 1e19],
	bytes_per_second: [0, 1e14],
	hertz: [0, 1e11],
	watts: [0, 1e5],
	joules: [0, 1e13],
	celsius: [-100, 250],
	// A driver that rounds says a little more than all of it.
	ratio: [0, 1.05],
	count: [0, 2 ** 64],
	bool: [0, 1],
	state: [0, 2 ** 32],
	bitmask: [0, 2 ** 53],
};

type Extra = Partial<Pick<TelemetryMetric, 'labels' | 'max' | 'min' | 'dcgm' | 'asOf'>>;

function metric(
	type: TelemetryMetric['type'],
	unit: MetricUnit,
	[key, name]: readonly [string, string],
	source: string,
	help: string,
	extra: Extra,
): TelemetryMetric {
	const [min, max] = BOUNDS[unit];
	return Object.freeze({ key, name, type, unit, source, help, min, max, ...extra });
}

export function gauge(unit: MetricUnit, names: readonly [string, string], source: string, help: string, extra = {}) {
	return metric('gauge', unit, names, source, help, extra as Extra);
}

export function counter(unit: MetricUnit, names: readonly [string, string], source: string, help: string, extra = {}) {
	return metric('counter', unit, names, source, help, extra as Extra);
}

/** A metric of dcgm-exporter's default set. */
export function dcgm(
	name: string,
	help: string,
	{ factor = 1, type = 'gauge', whole }: Partial<Pick<DcgmMetric, 'factor' | 'type' | 'whole'>> = {},
): { readonly dcgm: DcgmMetric } {
	return { dcgm: Object.freeze({ name, type, help, factor, ...(whole === undefined ? {} : { whole }) }) };
}
