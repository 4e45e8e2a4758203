import { create, fromBinary } from '@bufbuild/protobuf';
import { type Timestamp, timestampFromMs, timestampMs } from '@bufbuild/protobuf/wkt';
import { Custody } from '../../../proto/gen/gpuaas/common/v1/types_pb.ts';
import {
	HealthClearing,
	type HealthGlance,
	HealthGlanceSchema,
	type HealthOverride,
	HealthOverrideSchema,
	HealthState,
	type HealthVerdict,
	HealthVerdictsSchema,
} from '../../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import { HealthSubjectKind } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { TelemetryPart } from '../../../proto/telemetry-schema/schemas.ts';
import type { HealthOverrideRow, NodeHealthLine, NodeHealthRow } from '../../store/port/node-health.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { type CallerView, SEES_ALL } from '../telemetry/caller-view.ts';
import { gateOf, overridesInForce } from './gate.ts';
import { stateMessage } from './wire.ts';

/** Health of nodes as other messages show it, each with what its reader may see. */
export interface StoredHealth<Row extends NodeHealthLine = NodeHealthLine> {
	readonly row: Row | undefined;
	/** In force. */
	readonly override: HealthOverrideRow | undefined;
}

/** Of each of these nodes. */
export function* healthOfNodes(
	tx: Tx,
	nodeIds: readonly string[],
	nowMs: number,
): Plan<ReadonlyMap<string, StoredHealth>> {
	return join(nodeIds, yield* tx.nodeHealth.linesOfNodes(nodeIds), yield* overridesInForce(tx, nodeIds, nowMs));
}

/** With their verdicts. */
export function* wholeHealthOfNodes(
	tx: Tx,
	nodeIds: readonly string[],
	nowMs: number,
): Plan<ReadonlyMap<string, StoredHealth<NodeHealthRow>>> {
	return join(nodeIds, yield* tx.nodeHealth.ofNodes(nodeIds), yield* overridesInForce(tx, nodeIds, nowMs));
}

function join<Row extends NodeHealthLine>(
	nodeIds: readonly string[],
	rows: readonly Row[],
	overrides: ReadonlyMap<string, HealthOverrideRow>,
): ReadonlyMap<string, StoredHealth<Row>> {
	const byNode = new Map(rows.map((row) => [row.nodeId, row]));
	return new Map(nodeIds.map((id) => [id, { row: byNode.get(id), override: overrides.get(id) }]));
}

export function* healthOfNode(tx: Tx, { id }: Pick<NodeRow, 'id'>, nowMs: number): Plan<StoredHealth<NodeHealthRow>> {
	return (yield* wholeHealthOfNodes(tx, [id], nowMs)).get(id) ?? { row: undefined, override: undefined };
}

/** Undefined: nobody judged it yet and nobody overrode anything. `isPlatform`: who overrode it and why is shown too. */
export function glanceMessage({ row, override }: StoredHealth, isPlatform: boolean): HealthGlance | undefined {
	if (row === undefined && override === undefined) return undefined;
	return create(HealthGlanceSchema, {
		state: row === undefined ? HealthState.UNSPECIFIED : stateMessage(row.state),
		schedulable: gateOf(row, override).isOpen,
		simulated: row?.simulated ?? false,
		quarantined: (row?.quarantinedAtMs ?? null) !== null,
		claimed: row === undefined || row.claimed === '' ? HealthState.UNSPECIFIED : stateMessage(row.claimed),
		policyVersion: row?.policyVersion ?? '',
		...(row === undefined ? {} : { since: timestampFromMs(row.sinceMs) }),
		...(override === undefined ? {} : { override: overrideMessage(override, isPlatform) }),
	});
}

function overrideMessage(row: HealthOverrideRow, isPlatform: boolean): HealthOverride {
	return create(HealthOverrideSchema, {
		schedulable: row.schedulable,
		createdAt: timestampFromMs(row.createdAtMs),
		expiresAt: timestampFromMs(row.expiresAtMs),
		...(isPlatform ? { reason: row.reason, createdBy: row.createdBy } : {}),
	});
}

const PARTS: Readonly<Partial<Record<HealthSubjectKind, TelemetryPart>>> = {
	[HealthSubjectKind.NODE]: 'host',
	[HealthSubjectKind.GPU]: 'gpu',
	[HealthSubjectKind.SLICE]: 'slice',
	[HealthSubjectKind.NVLINK]: 'nvlink',
	[HealthSubjectKind.NIC]: 'ibPort',
};

/** Verdicts of things that the caller has now, with the evidence from the time in which it had them. */
export function verdictsSeen(row: NodeHealthRow, view: CallerView, nowMs: number): readonly HealthVerdict[] {
	return fromBinary(HealthVerdictsSchema, row.verdicts).verdicts.flatMap((verdict) => {
		const seen = verdictSeen(verdict, view, nowMs);
		return seen === undefined ? [] : [seen];
	});
}

export function verdictSeen(verdict: HealthVerdict, view: CallerView, atMs: number): HealthVerdict | undefined {
	const part = PARTS[verdict.subject?.kind ?? HealthSubjectKind.UNSPECIFIED];
	const id = verdict.subject?.id ?? '';
	if (part === undefined || !view.sees(part, id, atMs)) return undefined;
	if (view === SEES_ALL) return verdict;
	const seesAt = (at: Timestamp | undefined) => at !== undefined && view.sees(part, id, timestampMs(at));
	// What is open of a slice may be its GPU's, and tell of a neighbour.
	verdict.evidence = part === 'slice' ? [] : verdict.evidence.filter(({ observedAt }) => seesAt(observedAt));
	verdict.reasons = verdict.reasons.filter(({ last }) => seesAt(last));
	for (const reason of verdict.reasons) if (!seesAt(reason.since)) delete reason.since;
	if (verdict.reasons.length === 0) verdict.actions = [];
	if (seesAt(verdict.since)) return verdict;
	// It began, and what ended before it did, in a time that was not theirs.
	delete verdict.since;
	verdict.clearedBy = HealthClearing.UNSPECIFIED;
	return verdict;
}

/** By UUID, of GPUs and slices, what was heard in platform custody. */
export function gpuVerdicts(row: NodeHealthRow | undefined): ReadonlyMap<string, HealthVerdict> {
	if (row === undefined) return new Map();
	const { verdicts } = fromBinary(HealthVerdictsSchema, row.verdicts);
	return new Map(
		verdicts.flatMap((verdict) => {
			const { subject, custody } = verdict;
			const isGpu = subject?.kind === HealthSubjectKind.GPU || subject?.kind === HealthSubjectKind.SLICE;
			return subject !== undefined && isGpu && custody === Custody.PLATFORM ? [[subject.id, verdict] as const] : [];
		}),
	);
}
