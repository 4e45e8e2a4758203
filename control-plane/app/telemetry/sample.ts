import { create } from '@bufbuild/protobuf';
import {
	type PartSample,
	PartSampleSchema,
	type ProbeState,
	type TelemetryFrame,
} from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { TelemetryPart } from '../../../proto/telemetry-schema/schemas.ts';
import type { Custody } from '../../store/port/nodes.ts';

/**
 * What one node measured at one moment, after it was judged: the form in which the rest of the control plane sees
 * telemetry. Values are in the order of the part's table (proto/telemetry-schema); NaN is absent, never 0.
 */
export interface NodeSample {
	readonly nodeId: string;
	readonly schema: number;
	/** Who controlled the node's software when this came: what a tenant's agent says decides nothing (design 02). */
	readonly custody: Custody;
	/** GPU values come from a test double of the driver. */
	readonly simulated: boolean;
	readonly probe: ProbeState;
	/** Frames that the agent dropped since it started. */
	readonly dropped: number;
	/** First 16 digits of the digest of the inventory that ids belong to; empty: none yet. */
	readonly inventory: string;
	/** On the agent's clock. */
	readonly takenAtMs: number;
	/** On our wall clock. */
	readonly receivedAtMs: number;
	/** On `clock.monotonic()`: what ages are measured with. */
	readonly heardAtMs: number;
	/** On `clock.monotonic()`: when the parts that are measured less often came. */
	readonly slowHeardAtMs: number;
	readonly rows: Readonly<Record<TelemetryPart, readonly Row[]>>;
	/** By GPU, on our wall clock: its newest XID came after that moment (tenant-xid.ts). Not in it: not known. */
	readonly xidsAfterMs?: ReadonlyMap<string, number>;
	/** Measured with the slow parts; absent: the node reports none. Never on pages, in pushes or in history. */
	readonly processes?: ProcessRows;
}

export interface ProcessRows {
	readonly processes: readonly ProcessRow[];
	readonly leftOut: number;
}

/** A process on a GPU or MIG device. */
export interface ProcessRow {
	readonly gpu: string;
	readonly pid: number;
	/** NaN: not known. */
	readonly memoryBytes: number;
	readonly smUtilisation: number;
	/** As the agent says: it decides nothing. Empty: of none. */
	readonly taskId: string;
	readonly terminalId: string;
}

/** The values of one thing. */
export interface Row {
	/** Host: empty. GPU and slice: UUID. NVLink: UUID of its GPU. InfiniBand: device. Disk: id in the inventory. */
	readonly id: string;
	/** NVLink: number of the link. InfiniBand: number of the port. Else 0. */
	readonly index: number;
	readonly values: Float64Array;
}

/** The parts that a frame has only where `has_slow` is set. */
export const SLOW_PARTS = ['gpuSlow', 'nvlink', 'ibPort', 'disk'] as const satisfies readonly TelemetryPart[];

/** The parts of which one id may have several rows, told apart by their index. */
export const INDEXED_PARTS = ['nvlink', 'ibPort'] as const satisfies readonly TelemetryPart[];

export const PARTS = ['host', 'gpu', 'slice', ...SLOW_PARTS] as const satisfies readonly TelemetryPart[];

/** Where a frame has the rows of each part. */
export const ROWS_OF: Readonly<Record<TelemetryPart, (frame: TelemetryFrame) => readonly PartSample[]>> = {
	host: ({ values }) => [create(PartSampleSchema, { values })],
	gpu: ({ gpus }) => gpus,
	slice: ({ slices }) => slices,
	gpuSlow: ({ gpusSlow }) => gpusSlow,
	nvlink: ({ nvlinks }) => nvlinks,
	ibPort: ({ ibPorts }) => ibPorts,
	disk: ({ disks }) => disks,
};

/** Part under which readers know it: the slow values of a GPU are values of the GPU. */
export function shownPart(part: TelemetryPart): TelemetryPart {
	return part === 'gpuSlow' ? 'gpu' : part;
}

/** On our wall clock: parts that are measured less often may be from an earlier frame, and so of another tenant's time. */
export function measuredAtMs(sample: NodeSample, part: TelemetryPart): number {
	const { receivedAtMs, heardAtMs, slowHeardAtMs } = sample;
	return SLOW_PARTS.some((slow) => slow === part) ? receivedAtMs - (heardAtMs - slowHeardAtMs) : receivedAtMs;
}
