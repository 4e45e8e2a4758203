import { escapeLabelValue, type Format, familyHeader, formatValue } from '../../kit/exposition-text.ts';
import type { TelemetryMetric } from '../../proto/telemetry-schema.ts';
import { type LatestTelemetry, type Sample, schemaOf } from '../app/telemetry/latest.ts';

/** The page of one node's newest sample. All but node and values is built once a schema: thousands are rendered. */
interface Line {
	/** HELP and TYPE, where a family starts. */
	readonly header: Readonly<Record<Format, string>>;
	readonly before: string;
	readonly after: string;
}

const LINES = new Map<number, readonly Line[]>();

export function nodePage(nodeId: string, sample: Sample, telemetry: LatestTelemetry, format: Format): string {
	const node = escapeLabelValue(nodeId);
	let page = '';
	for (const [index, line] of linesOf(sample.schema).entries()) {
		page += line.header[format];
		const value = sample.values[index] ?? Number.NaN;
		// Absent, never 0 and never NaN: a source that isn't there has no series.
		if (!Number.isNaN(value)) page += `${line.before}${node}${line.after}${formatValue(value)}\n`;
	}
	const own: [string, 'counter' | 'gauge', string, number][] = [
		['gpuaas_node_telemetry_age_seconds', 'gauge', 'Age of this sample.', telemetry.ageMs(sample) / 1000],
		[
			'gpuaas_node_telemetry_dropped_total',
			'counter',
			'Samples that the agent dropped since it started.',
			sample.dropped,
		],
	];
	for (const [name, type, help, value] of own)
		page += `${familyHeader(name, type, help, format)}${name}{node="${node}"} ${formatValue(value)}\n`;
	return format === 'openmetrics' ? `${page}# EOF\n` : page;
}

function linesOf(schema: number): readonly Line[] {
	const known = LINES.get(schema);
	if (known !== undefined) return known;
	const metrics = schemaOf(schema) ?? [];
	const lines = metrics.map((metric, index) => lineOf(metric, metrics[index - 1]));
	LINES.set(schema, lines);
	return lines;
}

function lineOf(metric: TelemetryMetric, previous: TelemetryMetric | undefined): Line {
	const { name, type, help, labels = {} } = metric;
	const isFirst = previous?.name !== name;
	const rest = Object.entries(labels).map(([label, value]) => `,${label}="${escapeLabelValue(value)}"`);
	return {
		header: {
			text: isFirst ? familyHeader(name, type, help, 'text') : '',
			openmetrics: isFirst ? familyHeader(name, type, help, 'openmetrics') : '',
		},
		before: `${name}{node="`,
		after: `"${rest.join('')}} `,
	};
}
