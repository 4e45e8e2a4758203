import type { Custody, NodeRow } from './nodes.ts';
import type { Page } from './page.ts';
import type { Visibility } from './scopes.ts';
import type { Plan } from './unit.ts';

export type TaskState =
	| 'queued'
	| 'leased'
	| 'running'
	| 'cancelling'
	| 'succeeded'
	| 'failed'
	| 'cancelled'
	| 'timed_out'
	| 'lost'
	| 'refused';

export const TASK_STATES_OPEN: readonly TaskState[] = ['queued', 'leased', 'running', 'cancelling'];

export type TaskKind = 'run' | 'collect_bundle' | 'reboot' | 'inject_fault';

export interface TaskRow {
	readonly id: string;
	readonly nodeId: string;
	readonly state: TaskState;
	readonly kind: TaskKind;
	/** tasks.v1.TaskSpec, binary. */
	readonly spec: Uint8Array;
	readonly createdBy: string;
	/** 0 while queued for the first time. */
	readonly attempt: number;
	readonly attemptsMax: number;
	/** Of the newest claim; 0 before. */
	readonly fencingToken: number;
	readonly timeoutMs: number;
	readonly outputBytesMax: number;
	readonly createdAtMs: number;
	/** When a queued task is given up. */
	readonly queueDeadlineMs: number;
	/** When a lease that the agent didn't accept is taken back. */
	readonly leaseUntilMs: number | null;
	/** The agent journaled the envelope. */
	readonly acceptedAtMs: number | null;
	readonly startedAtMs: number | null;
	readonly endedAtMs: number | null;
	readonly exitCode: number | null;
	readonly signal: number | null;
	readonly reason: string;
	readonly message: string;
	readonly outputBytes: number;
	readonly outputDroppedBytes: number;
	/** All kept output is in the output store. */
	readonly outputComplete: boolean;
	readonly limitsEnforcedBy: string;
	readonly cancelRequestedAtMs: number | null;
	readonly cancelGraceMs: number | null;
	readonly batchId: string;
	readonly correlationId: string;
	/** Of the node at the last fact about this task. */
	readonly custody: Custody;
	readonly assignmentId: string | null;
	readonly organization: string | null;
	readonly project: string | null;
	readonly generation: number;
}

export type TaskPatch = Partial<Omit<TaskRow, 'id' | 'nodeId' | 'spec' | 'createdBy' | 'createdAtMs' | 'kind'>>;

/** The signed documents of one attempt: exact DSSE envelopes, binary common.v1.DsseEnvelope. */
export interface TaskDocumentsRow {
	readonly taskId: string;
	readonly attempt: number;
	readonly envelope: Uint8Array | null;
	readonly receipt: Uint8Array | null;
	readonly closing: Uint8Array | null;
	/** DER of the node certificate that the receipt verifies with. */
	readonly nodeCertificate: Uint8Array | null;
	/** DER of the task-signing certificate. */
	readonly signerCertificate: Uint8Array | null;
}

/** What a claim holds the node to. */
export type ClaimingNode = Pick<NodeRow, 'id' | 'fencingSeq' | 'generation' | 'custody'>;

export interface Tasks {
	insert(row: TaskRow): Plan<void>;
	get(id: string): Plan<TaskRow | undefined>;
	/** The changed row; with `ifStates` only when its state is one of them, else undefined. */
	update(id: string, patch: TaskPatch, ifStates?: readonly TaskState[]): Plan<TaskRow | undefined>;
	/** As `update` for a caller who has the row: whether it was changed. */
	change(id: string, patch: TaskPatch, ifStates: readonly TaskState[]): Plan<boolean>;
	/** Newest first (ids below `page.afterId`, or from the top when it is empty). */
	list(
		page: Page & {
			readonly nodeId: string | null;
			readonly states: readonly TaskState[];
			readonly batchId: string | null;
			/** By the assignment that the task was created under, never by the node's holder. */
			readonly visibility: Visibility;
		},
	): Plan<readonly TaskRow[]>;
	/** Queued tasks of a node, oldest first. */
	listQueued(nodeId: string, limit: number): Plan<readonly TaskRow[]>;
	/**
	 * Claims tasks of a node that were read as queued, so that what is signed before can be committed with the claim: the
	 * n-th, from 0, becomes leased with attempt + 1 and the token `node.fencingSeq + 1 + n`. Gives the ids of those that
	 * were still queued, and not told to stop meanwhile; none when the node isn't as it was read, was retired or locked. Locks
	 * so that two replicas never claim one task (hand-written per dialect).
	 */
	claim(
		node: ClaimingNode,
		tasks: readonly Pick<TaskRow, 'id' | 'attempt'>[],
		leaseUntilMs: number,
	): Plan<ReadonlySet<string>>;
	/** Ids of nodes that have queued tasks, among `nodeIds` when given. */
	listNodesWithQueued(limit: number, nodeIds?: readonly string[]): Plan<readonly string[]>;
	/** Open tasks (leased, running, cancelling) of a node. */
	listActive(nodeId: string, limit: number): Plan<readonly TaskRow[]>;
	/**
	 * Called lost because their node wasn't heard of, and not answered for since: they may wait there still, for a month,
	 * and then run until their own timeout is over. Oldest first.
	 */
	listUnanswered(nodeId: string, nowMs: number, limit: number): Plan<readonly TaskRow[]>;
	countOpen(nodeId: string): Plan<number>;
	/** Injections of faults on a node that may still last: begun or to be begun, and not over by their own time. */
	countInjections(nodeId: string, nowMs: number): Plan<number>;
	/** Queued past their queue deadline. */
	listQueueExpired(nowMs: number, limit: number): Plan<readonly TaskRow[]>;
	/** Leased and not accepted past their lease. */
	listLeaseExpired(nowMs: number, limit: number): Plan<readonly TaskRow[]>;
	/**
	 * Ids of tasks that ended before a time, by id, among those with `afterId` < id < `beforeId`. Ids rise with the time of
	 * creation, so the caller leaves out by `beforeId` all that is too new to have ended before it.
	 */
	listEndedBefore(endedBeforeMs: number, afterId: string, beforeId: string, limit: number): Plan<readonly string[]>;
	/** Open tasks created under an assignment. */
	listOpenByAssignment(assignmentId: string, limit: number): Plan<readonly TaskRow[]>;
	/** Merges the given documents into the attempt's row. */
	putDocuments(row: Pick<TaskDocumentsRow, 'taskId' | 'attempt'> & Partial<TaskDocumentsRow>): Plan<void>;
	getDocuments(taskId: string, attempt: number): Plan<TaskDocumentsRow | undefined>;
	/** Open tasks by state, for metrics. */
	countByState(): Plan<Readonly<Partial<Record<TaskState, number>>>>;
}
