import { assert } from './assert.ts';

/**
 * The lines of a Prometheus page, built without a registry: Prometheus text 0.0.4 and OpenMetrics 1.0.0. For pages
 * that are assembled from kept prefixes at a high rate (node metrics); kit/exposition.ts builds on it.
 */
export type Format = 'text' | 'openmetrics';

export const CONTENT_TYPE: Readonly<Record<Format, string>> = {
	text: 'text/plain; version=0.0.4; charset=utf-8',
	openmetrics: 'application/openmetrics-text; version=1.0.0; charset=utf-8',
};

export type MetricType = 'counter' | 'gauge' | 'histogram';

/** The HELP and TYPE lines. The samples of a family must follow it without a gap. */
export function familyHeader(name: string, type: MetricType, help: string, format: Format = 'text'): string {
	// OpenMetrics names a counter's family without the suffix that its samples carry.
	const family = format === 'openmetrics' && type === 'counter' ? name.replace(/_total$/, '') : name;
	const escaped = help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
	return `# HELP ${family} ${format === 'openmetrics' ? escaped.replaceAll('"', '\\"') : escaped}\n# TYPE ${family} ${type}\n`;
}

/** Everything of a sample line before its value: `name{label="value"} `. Keep it; only the value changes. */
export function seriesPrefix(name: string, labelNames: readonly string[], labelValues: readonly string[]): string {
	assert(labelNames.length === labelValues.length, `${name} has the labels ${labelNames.join(', ') || '(none)'}`);
	if (labelNames.length === 0) return `${name} `;
	let text = `${name}{`;
	for (let index = 0; index < labelNames.length; index += 1) {
		text += `${index === 0 ? '' : ','}${labelNames[index]}="${escapeLabelValue(labelValues[index] ?? '')}"`;
	}
	return `${text}} `;
}

/** Backslash, quote and line feed, as both formats want them. */
export function escapeLabelValue(value: string): string {
	if (!/[\\"\n]/.test(value)) return value;
	return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

/** As Go's strconv.ParseFloat reads it. */
export function formatValue(value: number): string {
	if (Number.isFinite(value)) return String(value);
	return Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf';
}

/** The format that an Accept header prefers; text unless OpenMetrics is named with at least the same weight. */
export function negotiateFormat(accept: string | undefined): Format {
	let openmetrics = 0;
	let text = accept === undefined ? 1 : 0;
	for (const part of (accept ?? '').split(',')) {
		const [media = '', ...parameters] = part.split(';').map((piece) => piece.trim().toLowerCase());
		const weight = Number(parameters.find((parameter) => parameter.startsWith('q='))?.slice(2) ?? '1');
		const version = parameters.find((parameter) => parameter.startsWith('version='))?.slice(8);
		if (media === 'application/openmetrics-text' && (version === undefined || version === '1.0.0'))
			openmetrics = Math.max(openmetrics, weight);
		if (media === 'text/plain' || media === 'text/*' || media === '*/*') text = Math.max(text, weight);
	}
	return openmetrics > 0 && openmetrics >= text ? 'openmetrics' : 'text';
}
