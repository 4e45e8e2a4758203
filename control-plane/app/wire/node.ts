import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { Custody } from '../../../proto/gen/gpuaas/common/v1/types_pb.ts';
import {
	type Assignment,
	AssignmentMode,
	AssignmentSchema,
	Connection,
	type Node,
	NodeSchema,
	NodeState,
} from '../../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import type { HealthGlance } from '../../../proto/gen/gpuaas/telemetry/v1/health_pb.ts';
import type { AssignmentRow } from '../../store/port/assignments.ts';
import type { NodeRow, Custody as RowCustody } from '../../store/port/nodes.ts';
import type { SessionRow } from '../../store/port/sessions.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';

/** Rows to messages: nodes, with all that a node's message shows from other tables. */
export const CUSTODY: Readonly<Record<RowCustody, Custody>> = {
	platform: Custody.PLATFORM,
	tenant: Custody.TENANT,
	transit: Custody.TRANSIT,
};

const STATE: Readonly<Record<NodeRow['state'], NodeState>> = {
	declared: NodeState.DECLARED,
	enrolling: NodeState.ENROLLING,
	validating: NodeState.VALIDATING,
	available: NodeState.AVAILABLE,
	reserved: NodeState.RESERVED,
	provisioning: NodeState.PROVISIONING,
	allocated: NodeState.ALLOCATED,
	releasing: NodeState.RELEASING,
	erasing: NodeState.ERASING,
	reprovisioning: NodeState.REPROVISIONING,
	attesting: NodeState.ATTESTING,
	draining: NodeState.DRAINING,
	quarantined: NodeState.QUARANTINED,
	maintenance: NodeState.MAINTENANCE,
	rescue: NodeState.RESCUE,
	retired: NodeState.RETIRED,
	failed: NodeState.FAILED,
};

const MODE: Readonly<Record<AssignmentRow['mode'], AssignmentMode>> = {
	host: AssignmentMode.HOST,
	slice: AssignmentMode.SLICE,
	operator: AssignmentMode.OPERATOR,
};

/** What one node's message is made of. */
export interface NodeFacts {
	readonly node: NodeRow;
	readonly assignment: AssignmentRow | undefined;
	readonly session: SessionRow | undefined;
	readonly certificateExpiresAtMs: number | null;
}

/** Reads what belongs to the given nodes, in their order. */
export function* factsOf(tx: Tx, nodes: readonly NodeRow[]): Plan<readonly NodeFacts[]> {
	const ids = nodes.map((node) => node.id);
	const assignments = new Map((yield* tx.assignments.openOfNodes(ids)).map((row) => [row.nodeId, row]));
	const sessions = new Map((yield* tx.sessions.getMany(ids)).map((row) => [row.nodeId, row]));
	const expiries = new Map<string, number>();
	for (const { subjectId, state, notAfterMs } of yield* tx.certificates.slotsOf(ids)) {
		// The one in use counts; before its first there is only the pending one.
		if (state === 'current' || !expiries.has(subjectId)) expiries.set(subjectId, notAfterMs);
	}
	return nodes.map((node) => ({
		node,
		assignment: assignments.get(node.id),
		session: sessions.get(node.id),
		certificateExpiresAtMs: expiries.get(node.id) ?? null,
	}));
}

/** As `factsOf`, for one. */
export function* factsOfNode(tx: Tx, node: NodeRow): Plan<NodeFacts> {
	const [facts] = yield* factsOf(tx, [node]);
	return facts ?? { node, assignment: undefined, session: undefined, certificateExpiresAtMs: null };
}

export function connectionOf(session: SessionRow | undefined, nowMs: number): 'connected' | 'disconnected' | 'lost' {
	if (session === undefined) return 'disconnected';
	if (session.lostAtMs !== null) return 'lost';
	if (session.disconnectedAtMs !== null) return 'disconnected';
	// Between the lease's end and its reconciler nobody knows, and saying "connected" would be a guess.
	return session.leaseUntilMs > nowMs ? 'connected' : 'lost';
}

const CONNECTION = {
	connected: Connection.CONNECTED,
	disconnected: Connection.DISCONNECTED,
	lost: Connection.LOST,
} as const;

/** `health`: as its reader may see it. */
export function nodeMessage(facts: NodeFacts, nowMs: number, health?: HealthGlance): Node {
	const { node, assignment } = facts;
	return create(NodeSchema, {
		id: node.id,
		name: node.name,
		state: STATE[node.state],
		connection: CONNECTION[connectionOf(facts.session, nowMs)],
		custody: CUSTODY[node.custody],
		generation: node.generation,
		cordoned: node.cordoned,
		cordonReason: node.cordonReason,
		locked: node.locked,
		lockReason: node.lockReason,
		labels: { ...node.labels },
		agentVersion: node.agentVersion,
		bootId: node.bootId,
		hostname: node.hostname,
		enrolledAt: timestampFromMs(node.enrolledAtMs),
		etag: etagOf(node),
		capabilities: [...node.capabilities],
		...(health === undefined ? {} : { health }),
		...(assignment === undefined ? {} : { assignment: assignmentMessage(assignment) }),
		...(node.lastSeenAtMs === null ? {} : { lastSeenAt: timestampFromMs(node.lastSeenAtMs) }),
		...(facts.certificateExpiresAtMs === null
			? {}
			: { certificateExpiresAt: timestampFromMs(facts.certificateExpiresAtMs) }),
	});
}

export function etagOf(node: NodeRow): string {
	return `v${node.version}`;
}

export function assignmentMessage(row: AssignmentRow): Assignment {
	return create(AssignmentSchema, {
		id: row.id,
		nodeId: row.nodeId,
		organization: row.organization,
		project: row.project,
		mode: MODE[row.mode],
		generation: row.generation,
		from: timestampFromMs(row.fromMs),
		...(row.untilMs === null ? {} : { until: timestampFromMs(row.untilMs) }),
	});
}

export function modeOf(mode: AssignmentMode): AssignmentRow['mode'] {
	if (mode === AssignmentMode.HOST) return 'host';
	return mode === AssignmentMode.SLICE ? 'slice' : 'operator';
}
