import type { Custody } from './nodes.ts';
import type { Plan } from './unit.ts';

/** Verdicts of nodes and what somebody decided beside them. Written by whoever judges a node, fenced by `version`. */
export interface NodeHealthRow {
	readonly nodeId: string;
	/** Of the node, by what was heard in platform custody: HEALTHY, DEGRADED, UNKNOWN, UNHEALTHY. */
	readonly state: string;
	readonly schedulable: boolean;
	/** The severest state that was only claimed in another custody; empty: none. */
	readonly claimed: string;
	readonly simulated: boolean;
	/** GPUs that have a verdict: circuit breakers count nodes that have some. */
	readonly gpus: number;
	readonly policyVersion: string;
	readonly sinceMs: number;
	/** Binary telemetry.v1.HealthVerdicts. */
	readonly verdicts: Uint8Array;
	/** What the engine goes on from: JSON, deflated. */
	readonly saved: Uint8Array;
	/** The newest health fact and evidence that are judged; empty: none. */
	readonly factId: string;
	readonly evidenceId: string;
	readonly quarantinedAtMs: number | null;
	readonly quarantineReason: string;
	/** When it was quarantined lately, oldest first. */
	readonly quarantines: readonly number[];
	readonly judgedAtMs: number;
	/** Rises by one with each write. */
	readonly version: number;
}

/** For whoever shows many nodes in a line each. */
export type NodeHealthLine = Omit<NodeHealthRow, 'verdicts' | 'saved'>;

/** A verdict that changed its state. */
export interface HealthChangeRow {
	/** UUIDv7. */
	readonly id: string;
	readonly nodeId: string;
	readonly custody: Custody;
	/** node, gpu, slice, nic, nvlink. */
	readonly kind: string;
	readonly subjectId: string;
	readonly subjectIndex: number;
	/** Empty: there was none. */
	readonly before: string;
	readonly after: string;
	/** Binary telemetry.v1.HealthVerdict. */
	readonly verdict: Uint8Array;
	readonly atMs: number;
}

/** Something that the platform did or found out, and that may end findings. */
export interface HealthEvidenceRow {
	/** UUIDv7. */
	readonly id: string;
	readonly nodeId: string;
	/** gpu_reset, diagnostic_passed, serviced. */
	readonly clearing: string;
	readonly kind: string;
	readonly subjectId: string;
	readonly subjectIndex: number;
	/** Empty: somebody's word. */
	readonly taskId: string;
	readonly reason: string;
	readonly createdBy: string;
	readonly atMs: number;
}

/** Somebody's word against the verdict, until it expires. */
export interface HealthOverrideRow {
	readonly nodeId: string;
	readonly schedulable: boolean;
	readonly reason: string;
	readonly createdBy: string;
	readonly createdAtMs: number;
	readonly expiresAtMs: number;
}

/** Nodes with GPUs that are not retired: what circuit breakers count. A quarantine that begins with `simulated: ` is none. */
export interface HealthFleet {
	readonly gpuNodes: number;
	readonly quarantined: number;
}

export interface NodeHealth {
	get(nodeId: string): Plan<NodeHealthRow | undefined>;
	ofNodes(nodeIds: readonly string[]): Plan<readonly NodeHealthRow[]>;
	linesOfNodes(nodeIds: readonly string[]): Plan<readonly NodeHealthLine[]>;
	/** `ifVersion` 0: there is no row yet. False when somebody else wrote since. */
	put(row: NodeHealthRow, ifVersion: number): Plan<boolean>;
	/** Of all nodes, or of those with a label. */
	fleet(label?: { readonly key: string; readonly value: string }): Plan<HealthFleet>;
	/** Keeps the newest `keepMax` of the node and custody: what a tenant's agent says pushes out nothing else. */
	insertChange(row: HealthChangeRow, keepMax: number): Plan<void>;
	/** Newest first. */
	listChanges(nodeId: string, custody: Custody, limit: number): Plan<readonly HealthChangeRow[]>;
	/** Keeps the newest `keepMax` of the node. */
	insertEvidence(row: HealthEvidenceRow, keepMax: number): Plan<void>;
	/** Above the id, oldest first. */
	evidenceAfter(nodeId: string, afterId: string, limit: number): Plan<readonly HealthEvidenceRow[]>;
	/** Those that have expired too: whoever asks looks at the time. */
	overridesOf(nodeIds: readonly string[]): Plan<readonly HealthOverrideRow[]>;
	/** Replaces the one of the node. */
	putOverride(row: HealthOverrideRow): Plan<void>;
	deleteOverride(nodeId: string): Plan<boolean>;
	/** Only one whose time is over; false: another was set meanwhile, or none is there. */
	endOverride(nodeId: string, nowMs: number): Plan<boolean>;
	/** By time of their end. */
	overridesExpired(nowMs: number, limit: number): Plan<readonly HealthOverrideRow[]>;
}
