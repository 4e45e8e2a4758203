import { gzipSync } from 'node:zlib';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { ExportMetricsServiceRequestSchema } from '../../../proto/gen/opentelemetry/proto/collector/metrics/v1/metrics_service_pb.ts';
import type { KeyValueSchema } from '../../../proto/gen/opentelemetry/proto/common/v1/common_pb.ts';
import {
	AggregationTemporality,
	type MetricSchema,
	type NumberDataPointSchema,
	type ResourceMetricsSchema,
} from '../../../proto/gen/opentelemetry/proto/metrics/v1/metrics_pb.ts';
import type { MetricUnit } from '../../../proto/telemetry-schema/metric.ts';
import type { Family, Position } from '../../app/telemetry/families.ts';
import type { Labels } from '../../app/telemetry/labels.ts';
import type { SampleEncoder } from './pusher.ts';

/**
 * OTLP/HTTP with binary protobuf (opentelemetry.io/docs/specs/otlp), one resource a node. The metrics that the semantic
 * conventions of hardware have (hw.gpu.*, hw.power, hw.temperature, hw.energy) are called so; every other one keeps its
 * own name. What is gone is said with the flag for "no recorded value".
 */
export const OTLP_HEADERS = { 'content-type': 'application/x-protobuf', 'content-encoding': 'gzip' } as const;

type Point = MessageInitShape<typeof NumberDataPointSchema>;
type Attribute = MessageInitShape<typeof KeyValueSchema>;

/** DataPointFlags.NO_RECORDED_VALUE_MASK. */
const NO_RECORDED_VALUE = 1;

/** UCUM, as the specification wants units. */
const UNITS: Readonly<Record<MetricUnit, string>> = {
	seconds: 's',
	bytes: 'By',
	bytes_per_second: 'By/s',
	hertz: 'Hz',
	watts: 'W',
	joules: 'J',
	celsius: 'Cel',
	ratio: '1',
	count: '1',
	bool: '1',
	state: '1',
	bitmask: '1',
};

/** Names of the conventions, and the attributes that tell their parts apart; by key of the GPU's tables. */
const CONVENTIONS: Readonly<Record<string, readonly [name: string, attributes: Labels]>> = {
	'utilisation.gpu': ['hw.gpu.utilization', [['hw.gpu.task', 'general']]],
	'utilisation.encoder': ['hw.gpu.utilization', [['hw.gpu.task', 'encoder']]],
	'utilisation.decoder': ['hw.gpu.utilization', [['hw.gpu.task', 'decoder']]],
	'memory.used': ['hw.gpu.memory.usage', []],
	'memory.total': ['hw.gpu.memory.limit', []],
	'power.usage': ['hw.power', []],
	energy: ['hw.energy', []],
	'temperature.gpu': ['hw.temperature', [['hw.sensor_location', 'gpu']]],
	'temperature.memory': ['hw.temperature', [['hw.sensor_location', 'memory']]],
	'pcie.tx': ['hw.gpu.io', [['network.io.direction', 'transmit']]],
	'pcie.rx': ['hw.gpu.io', [['network.io.direction', 'receive']]],
};

interface Gathered {
	readonly metric: MessageInitShape<typeof MetricSchema>;
	readonly points: Point[];
}

export class OtlpEncoder implements SampleEncoder {
	#resources: MessageInitShape<typeof ResourceMetricsSchema>[] = [];
	#metrics = new Map<string, Gathered>();
	#target: Labels = [];
	#series = 0;
	#timeUnixNano = 0n;

	get seriesCount(): number {
		return this.#series;
	}

	begin(target: Labels, atMs: number): void {
		this.#endResource();
		this.#target = target;
		this.#timeUnixNano = BigInt(atMs) * 1_000_000n;
	}

	series(family: Family, position: Position, labels: Labels, value: number | undefined, more: Labels): void {
		// The names of another exporter are of no use here: the same values have names of the conventions or of ours.
		if (family.names === 'dcgm') return;
		const isGpu = position.part === 'gpu' || position.part === 'gpuSlow';
		const convention = isGpu ? CONVENTIONS[position.metric.key] : undefined;
		const [name, extra] = convention ?? [family.name, NONE];
		const id = labels.find(([label]) => label === 'uuid')?.[1];
		const hardware: Labels =
			isGpu && id !== undefined
				? [
						['hw.id', id],
						['hw.type', 'gpu'],
					]
				: NONE;
		this.#of(name, family, position).points.push({
			attributes: attributesOf([...labels, ...position.labels, ...more, ...extra, ...hardware]),
			timeUnixNano: this.#timeUnixNano,
			...(value === undefined ? { flags: NO_RECORDED_VALUE } : { value: { case: 'asDouble', value } }),
		});
		this.#series += 1;
	}

	take(): Buffer {
		this.#endResource();
		const request = create(ExportMetricsServiceRequestSchema, { resourceMetrics: this.#resources });
		this.#resources = [];
		this.#series = 0;
		return gzipSync(toBinary(ExportMetricsServiceRequestSchema, request), { level: 1 });
	}

	#of(name: string, { help, type }: Family, { metric }: Position): Gathered {
		let gathered = this.#metrics.get(name);
		if (gathered === undefined) {
			const points: Point[] = [];
			const temporality = AggregationTemporality.CUMULATIVE;
			gathered = {
				points,
				metric: {
					name,
					description: help,
					unit: UNITS[metric.unit],
					data:
						type === 'counter'
							? { case: 'sum', value: { dataPoints: points, isMonotonic: true, aggregationTemporality: temporality } }
							: { case: 'gauge', value: { dataPoints: points } },
				},
			};
			this.#metrics.set(name, gathered);
		}
		return gathered;
	}

	#endResource(): void {
		if (this.#metrics.size === 0) return;
		this.#resources.push({
			resource: { attributes: attributesOf([['service.name', 'gpuaas'], ...this.#target.map(asResource)]) },
			scopeMetrics: [
				{ scope: { name: 'gpuaas.telemetry' }, metrics: [...this.#metrics.values()].map(({ metric }) => metric) },
			],
		});
		this.#metrics = new Map();
	}
}

const NONE: Labels = [];
const RESOURCE_NAMES: Readonly<Record<string, string>> = { instance: 'host.name', node: 'host.id' };

function asResource([name, value]: Labels[number]): Labels[number] {
	return [RESOURCE_NAMES[name] ?? name, value];
}

function attributesOf(labels: Labels): Attribute[] {
	return labels
		.filter(([, value]) => value !== '')
		.map(([key, value]) => ({ key, value: { value: { case: 'stringValue', value } } }));
}
