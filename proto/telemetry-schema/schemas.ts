import { DISK_VALUES } from './disk.ts';
import { GPU_VALUES } from './gpu.ts';
import { GPU_SLOW_VALUES } from './gpu-slow.ts';
import { HOST_VALUES_1, HOST_VALUES_2 } from './host.ts';
import { IB_PORT_VALUES, NVLINK_VALUES } from './links.ts';
import type { TelemetryMetric } from './metric.ts';
import { SLICE_VALUES } from './slice.ts';

/**
 * What the positions of a TelemetryFrame mean, by schema number: one table of values for each part. A schema never changes
 * once released; a new one gets a new number, and the control plane keeps understanding those before it.
 */
export type TelemetryPart = 'host' | 'gpu' | 'gpuSlow' | 'slice' | 'nvlink' | 'ibPort' | 'disk';
export type TelemetrySchema = Readonly<Record<TelemetryPart, readonly TelemetryMetric[]>>;

const SCHEMA_1: TelemetrySchema = Object.freeze({
	host: HOST_VALUES_1,
	gpu: [],
	gpuSlow: [],
	slice: [],
	nvlink: [],
	ibPort: [],
	disk: [],
});

const SCHEMA_2: TelemetrySchema = Object.freeze({
	host: HOST_VALUES_2,
	gpu: GPU_VALUES,
	gpuSlow: GPU_SLOW_VALUES,
	slice: SLICE_VALUES,
	nvlink: NVLINK_VALUES,
	ibPort: IB_PORT_VALUES,
	disk: DISK_VALUES,
});

/** What agents of this version send. */
export const SCHEMA_NUMBER = 2;

const SCHEMAS: ReadonlyMap<number, TelemetrySchema> = new Map([
	[1, SCHEMA_1],
	[SCHEMA_NUMBER, SCHEMA_2],
]);

export const CURRENT_SCHEMA: TelemetrySchema = SCHEMA_2;

/** Undefined for one that this version doesn't know. */
export function schemaOf(number: number): TelemetrySchema | undefined {
	return SCHEMAS.get(number);
}

const POSITIONS = new Map<TelemetrySchema, Map<string, number>>();

/** Where a key is in a part's table of this schema; -1 when it isn't. */
export function positionIn(schemaNumber: number, part: TelemetryPart, key: string): number {
	const schema = schemaOf(schemaNumber);
	if (schema === undefined) return -1;
	let positions = POSITIONS.get(schema);
	if (positions === undefined) {
		const parts = Object.entries(schema) as [TelemetryPart, readonly TelemetryMetric[]][];
		positions = new Map(
			parts.flatMap(([name, table]) => table.map((metric, index) => [`${name}/${metric.key}`, index])),
		);
		POSITIONS.set(schema, positions);
	}
	return positions.get(`${part}/${key}`) ?? -1;
}
