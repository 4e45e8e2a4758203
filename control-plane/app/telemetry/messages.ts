import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { PartSample } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import {
	type GpuGlanceSchema,
	type NodeGlance,
	NodeGlanceSchema,
	type NodeTelemetry,
	NodeTelemetrySchema,
	type TelemetryThingSchema,
	type TelemetryValueSchema,
} from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { ageSecondsOf, isAge } from '../../../proto/telemetry-schema/age.ts';
import { positionIn, schemaOf, type TelemetryPart } from '../../../proto/telemetry-schema/schemas.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import { CUSTODY } from '../wire/node.ts';
import type { CallerView } from './caller-view.ts';
import type { NodeIdentities } from './identities.ts';
import { measuredAtMs, type NodeSample, PARTS, type Row, shownPart } from './sample.ts';
import type { Telemetry } from './telemetry.ts';
import { withOwnXid } from './tenant-xid.ts';

/** Samples to messages, with what the caller may see of them. */
type Named = Pick<NodeRow, 'id' | 'name'>;

/** A refusal of longer ago has been told. */
const REFUSAL_SHOWN_MS = 120_000;

export function nodeTelemetryMessage(telemetry: Telemetry, node: Named, view: CallerView): NodeTelemetry {
	const { latest, directory, ingest } = telemetry;
	const sample = latest.get(node.id);
	const refusal = ingest.refusalOf(node.id);
	const refused = refusal !== undefined && refusal.ageMs < REFUSAL_SHOWN_MS ? refusal.reason : '';
	if (sample === undefined)
		return create(NodeTelemetrySchema, { nodeId: node.id, name: node.name, stale: true, refused });
	const stale = latest.isStale(sample);
	return create(NodeTelemetrySchema, {
		nodeId: node.id,
		name: node.name,
		takenAt: timestampFromMs(sample.takenAtMs),
		ageSeconds: latest.ageMs(sample) / 1000,
		stale,
		simulated: sample.simulated,
		custody: CUSTODY[sample.custody],
		probe: sample.probe,
		dropped: BigInt(sample.dropped),
		clockSkewSeconds: (sample.takenAtMs - sample.receivedAtMs) / 1000,
		refused,
		things: stale ? [] : thingsOf(sample, latest.ageMs(sample), directory.get(node.id)?.identities, view),
		...(stale ? {} : processesOf(sample, view)),
	});
}

/**
 * How many were left out is of the whole node: told to who sees all of it. They are measured with the slow parts: a frame
 * after a hand-over may still carry those of the tenant before.
 */
function processesOf(sample: NodeSample, view: CallerView) {
	const { processes, leftOut } = sample.processes ?? { processes: [], leftOut: 0 };
	const atMs = measuredAtMs(sample, 'gpuSlow');
	const sees = (part: 'gpu' | 'slice' | 'host', id: string) => view.sees(part, id, atMs);
	return {
		processes: processes
			.filter(({ gpu }) => sees(sample.rows.slice.some(({ id }) => id === gpu) ? 'slice' : 'gpu', gpu))
			.map(({ memoryBytes, smUtilisation, ...rest }) => ({
				...rest,
				...(Number.isNaN(memoryBytes) ? {} : { memoryBytes }),
				...(Number.isNaN(smUtilisation) ? {} : { smUtilisation }),
			})),
		processesLeftOut: sees('host', '') ? leftOut : 0,
	};
}

type Values = MessageInitShape<typeof TelemetryValueSchema>[];

function thingsOf(sample: NodeSample, ageMs: number, identities: NodeIdentities | undefined, view: CallerView) {
	const things = new Map<string, MessageInitShape<typeof TelemetryThingSchema> & { values: Values }>();
	for (const part of PARTS) {
		const shown = shownPart(part);
		const atMs = measuredAtMs(sample, part);
		const table = schemaOf(sample.schema)?.[part] ?? [];
		const carriedMs = sample.receivedAtMs - atMs;
		for (const row of sample.rows[part]) {
			if (!view.sees(shown, row.id, atMs)) continue;
			const key = `${shown}/${row.id}/${row.index}`;
			let thing = things.get(key);
			if (thing === undefined) {
				const slice = identities?.slices.get(row.id);
				const model = identities?.gpus.get(slice?.gpuUuid ?? row.id)?.name ?? '';
				thing = { part: shown, id: row.id, index: row.index, model, profile: slice?.profile ?? '', values: [] };
				things.set(key, thing);
			}
			const { values } = withOwnXid(sample, part, row, view);
			for (const [index, { key: name, unit }] of table.entries()) {
				const value = values[index] as number;
				if (Number.isNaN(value)) continue;
				const ownMs = isAge(table, index) ? 0 : (ageSecondsOf(table, values, index) ?? 0) * 1000 || carriedMs;
				const age = ownMs > 0 ? { ageSeconds: (ageMs + ownMs) / 1000 } : {};
				thing.values.push({ key: name, value, unit, ...age });
			}
		}
	}
	return [...things.values()];
}

export function nodeGlanceMessage(telemetry: Telemetry, node: Named, view: CallerView): NodeGlance {
	const { latest, directory } = telemetry;
	const sample = latest.get(node.id);
	if (sample === undefined) return create(NodeGlanceSchema, { nodeId: node.id, name: node.name, stale: true });
	const stale = latest.isStale(sample);
	const identities = directory.get(node.id)?.identities;
	const host = view.sees('host', '', sample.receivedAtMs) ? sample.rows.host[0] : undefined;
	const of = reader(sample);
	return create(NodeGlanceSchema, {
		nodeId: node.id,
		name: node.name,
		ageSeconds: latest.ageMs(sample) / 1000,
		stale,
		simulated: sample.simulated,
		custody: CUSTODY[sample.custody],
		probe: sample.probe,
		...(stale
			? {}
			: {
					...of('host', host, {
						load1: 'load.1',
						cpus: 'cpu.count',
						memoryBytes: 'memory.total',
						memoryAvailableBytes: 'memory.available',
					}),
					gpus: [...gpuGlances(sample, identities, view), ...sliceGlances(sample, identities, view)].sort(
						(a, b) => (a.index ?? 0) - (b.index ?? 0),
					),
				}),
	});
}

type GpuGlanceInit = MessageInitShape<typeof GpuGlanceSchema>;

function gpuGlances(sample: NodeSample, identities: NodeIdentities | undefined, view: CallerView): GpuGlanceInit[] {
	const of = reader(sample);
	return sample.rows.gpu.flatMap((row): GpuGlanceInit[] => {
		if (!view.sees('gpu', row.id, sample.receivedAtMs)) return [];
		const gpu = identities?.gpus.get(row.id);
		const slow = sample.rows.gpuSlow.find(({ id }) => id === row.id);
		const total = of('gpuSlow', slow, { memoryBytes: 'memory.total' });
		const known = gpu === undefined || gpu.memoryBytes === 0n ? {} : { memoryBytes: Number(gpu.memoryBytes) };
		return [
			{
				uuid: row.id,
				index: gpu?.index ?? 0,
				model: gpu?.name ?? '',
				...known,
				...total,
				...of('gpu', withOwnXid(sample, 'gpu', row, view), {
					utilisation: 'utilisation.gpu',
					active: 'gpm.graphics',
					memoryUsedBytes: 'memory.used',
					powerWatts: 'power.usage',
					powerLimitWatts: 'power.limit',
					temperatureCelsius: 'temperature.gpu',
					smClockHertz: 'clock.sm',
					lastXid: 'xid.last',
					nvmlStatus: 'nvml.status',
				}),
			},
		];
	});
}

function sliceGlances(sample: NodeSample, identities: NodeIdentities | undefined, view: CallerView): GpuGlanceInit[] {
	const of = reader(sample);
	return sample.rows.slice.flatMap((row): GpuGlanceInit[] => {
		if (!view.sees('slice', row.id, sample.receivedAtMs)) return [];
		const slice = identities?.slices.get(row.id);
		const gpu = identities?.gpus.get(slice?.gpuUuid ?? '');
		return [
			{
				uuid: row.id,
				index: gpu?.index ?? 0,
				model: gpu?.name ?? '',
				profile: slice?.profile ?? 'MIG',
				gpuUuid: slice?.gpuUuid ?? '',
				...of('slice', row, { active: 'gpm.graphics', memoryUsedBytes: 'memory.used', memoryBytes: 'memory.total' }),
			},
		];
	});
}

/** Fields that are there: absent ones are left out of the message. */
function reader(sample: NodeSample) {
	return <Field extends string>(
		part: TelemetryPart,
		row: Pick<Row | PartSample, 'values'> | undefined,
		keys: Readonly<Record<Field, string>>,
	): Partial<Record<Field, number>> => {
		const found: Partial<Record<Field, number>> = {};
		for (const [field, key] of Object.entries(keys) as [Field, string][]) {
			const value = row?.values[positionIn(sample.schema, part, key)];
			if (value !== undefined && !Number.isNaN(value)) found[field] = value;
		}
		return found;
	};
}
