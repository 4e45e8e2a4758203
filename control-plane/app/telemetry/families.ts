import { assert } from '../../../kit/assert.ts';
import type { DcgmMetric, TelemetryMetric } from '../../../proto/telemetry-schema/metric.ts';
import { schemaOf, type TelemetryPart } from '../../../proto/telemetry-schema/schemas.ts';
import { PARTS } from './sample.ts';

/**
 * The metric families that telemetry is exported as, made once a schema from its tables: our own names, and those of
 * dcgm-exporter (NVIDIA's default-counters.csv) with its units. Pages and pushes walk the same families, so that a series
 * has one value and one meaning wherever it is read.
 */
export type NameSet = 'gpuaas' | 'dcgm';

export interface Family {
	readonly names: NameSet;
	readonly name: string;
	readonly type: 'counter' | 'gauge';
	readonly help: string;
	readonly positions: readonly Position[];
}

/** Where values of a family are. */
export interface Position {
	readonly part: TelemetryPart;
	/** In the part's table. */
	readonly index: number;
	readonly metric: TelemetryMetric;
	/** Constant labels, in order. */
	readonly labels: readonly (readonly [name: string, value: string])[];
	convert(value: number): number;
}

const FAMILIES = new Map<number, readonly Family[]>();

export function familiesOf(schemaNumber: number): readonly Family[] {
	let families = FAMILIES.get(schemaNumber);
	if (families === undefined) {
		families = Object.freeze([...ownFamilies(schemaNumber), ...dcgmFamilies(schemaNumber)]);
		FAMILIES.set(schemaNumber, families);
	}
	return families;
}

function ownFamilies(schemaNumber: number): readonly Family[] {
	const positions = positionsOf(
		schemaNumber,
		({ labels = {} }) => Object.entries(labels),
		() => asItIs,
	);
	return grouped(positions, ({ metric }) => metric.name).map(([name, of]) => {
		const { type, help } = (of[0] as Position).metric;
		return { names: 'gpuaas', name, type, help, positions: of };
	});
}

/** MIG instances share families with whole GPUs, told apart by GPU_I_ID. */
function dcgmFamilies(schemaNumber: number): readonly Family[] {
	const positions = positionsOf(
		schemaNumber,
		() => [],
		({ dcgm }) => (dcgm === undefined ? undefined : asDcgm(dcgm)),
	);
	return grouped(positions, ({ metric }) => metric.dcgm?.name ?? '').map(([name, of]) => {
		const { dcgm } = (of[0] as Position).metric;
		assert(dcgm !== undefined, 'a family of dcgm-exporter is made of metrics that have its name');
		return { names: 'dcgm', name, type: dcgm.type, help: dcgm.help, positions: of };
	});
}

function positionsOf(
	schemaNumber: number,
	labelsOf: (metric: TelemetryMetric) => readonly (readonly [string, string])[],
	convertOf: (metric: TelemetryMetric) => ((value: number) => number) | undefined,
): readonly Position[] {
	const schema = schemaOf(schemaNumber);
	assert(schema !== undefined, `schema ${schemaNumber} is known: its frame was accepted`);
	return PARTS.flatMap((part) =>
		schema[part].flatMap((metric, index) => {
			const convert = convertOf(metric);
			return convert === undefined ? [] : [{ part, index, metric, labels: labelsOf(metric), convert }];
		}),
	);
}

function grouped(positions: readonly Position[], nameOf: (position: Position) => string) {
	return [...Map.groupBy(positions, nameOf)];
}

function asItIs(value: number): number {
	return value;
}

function asDcgm({ factor, whole }: DcgmMetric): (value: number) => number {
	// A product such as 0.29 * 100 is a hair below 29: the addend keeps `floor` from taking a whole unit away.
	if (whole === 'floor') return (value) => Math.floor(value * factor + 1e-9);
	if (whole === 'round') return (value) => Math.round(value * factor);
	return factor === 1 ? asItIs : (value) => value * factor;
}
