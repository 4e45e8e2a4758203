/** Numbers of telemetry as people read them: short, with their unit. */
const SCALED: Readonly<Record<string, readonly [steps: readonly string[], base: number]>> = {
	bytes: [['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'], 1024],
	bytes_per_second: [['B/s', 'kB/s', 'MB/s', 'GB/s', 'TB/s'], 1000],
	hertz: [['Hz', 'kHz', 'MHz', 'GHz'], 1000],
	watts: [['W', 'kW', 'MW'], 1000],
	joules: [['J', 'kJ', 'MJ', 'GJ', 'TJ'], 1000],
};

export function quantity(value: number, unit: string): string {
	if (unit === 'ratio') return `${short(value * 100)} %`;
	if (unit === 'celsius') return `${short(value)} °C`;
	if (unit === 'seconds') return `${short(value)} s`;
	if (unit === 'bool') return value === 1 ? 'yes' : 'no';
	if (unit === 'bitmask') return `0x${value.toString(16)}`;
	const scaled = SCALED[unit];
	if (scaled === undefined) return Number.isInteger(value) ? String(value) : short(value);
	const [steps, base] = scaled;
	let left = value;
	let step = 0;
	// A GPU draws 700 W, not 0.7 kW: one more step only from four digits on.
	while (Math.abs(left) >= base && step < steps.length - 1) {
		left /= base;
		step += 1;
	}
	return `${short(left)} ${steps[step]}`;
}

/** A rate of a counter, from the unit of the counter. */
export function rate(value: number, unit: string): string {
	if (unit === 'bytes') return quantity(value, 'bytes_per_second');
	if (unit === 'joules') return quantity(value, 'watts');
	if (unit === 'seconds') return quantity(value, 'ratio');
	return `${short(value)}/s`;
}

/** Metrics that are moments, in seconds since 1970: a duration to their unit, which is Prometheus's for both. */
const MOMENTS: ReadonlySet<string> = new Set(['boot.time']);

/** A value of the metric `key`, where quantities are shown without their metric a plain `quantity`. */
export function metricText(key: string, value: number, unit: string): string {
	if (!MOMENTS.has(key)) return quantity(value, unit);
	return new Date(Math.round(value) * 1000).toISOString().replace('.000Z', 'Z');
}

/** A value of a sample, with its age where that is more than the sample's. */
export function measured({ key, value, unit, ageSeconds }: Measured): string {
	const age = ageSeconds === undefined ? '' : `, ${ageText(ageSeconds)} old`;
	return `${metricText(key, value, unit)}${age}`;
}

interface Measured {
	readonly key: string;
	readonly value: number;
	readonly unit: string;
	readonly ageSeconds?: number | undefined;
}

/** How long ago something was measured: seconds as long as they matter. */
function ageText(seconds: number): string {
	if (seconds < 120) return `${Math.round(seconds)} s`;
	return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

function short(value: number): string {
	const size = Math.abs(value);
	if (size >= 100 || Number.isInteger(value)) return String(Math.round(value));
	return String(Number(value.toPrecision(3)));
}
