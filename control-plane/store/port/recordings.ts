import type { Custody } from './nodes.ts';
import type { Page } from './page.ts';
import type { Visibility } from './scopes.ts';
import type { Plan } from './unit.ts';

/**
 * `recording` the file grows on the replica that relays · `sealed` kept under its digest with a signed manifest · `failed`
 * nothing of it could be kept · `purged` the file was deleted by retention; row, digest and manifest stay.
 */
export type RecordingState = 'recording' | 'sealed' | 'failed' | 'purged';

/** One part of a terminal: one that outlives a control plane goes on in the next. */
export interface RecordingRow {
	readonly id: string;
	readonly terminalId: string;
	/** From 1. */
	readonly part: number;
	readonly nodeId: string;
	readonly nodeName: string;
	readonly state: RecordingState;
	/** Whoever opened the terminal. */
	readonly createdBy: string;
	/** The local account. */
	readonly accountName: string;
	readonly replicaId: string;
	readonly inputRecorded: boolean;
	/** Of the node when it began. */
	readonly custody: Custody;
	readonly assignmentId: string | null;
	readonly organization: string | null;
	readonly project: string | null;
	readonly generation: number;
	readonly startedAtMs: number;
	readonly endedAtMs: number | null;
	/** Why it ends before its terminal did; empty when it has its end. */
	readonly truncated: string;
	/** Where output never came from the node; each is marked in the file. */
	readonly gaps: number;
	readonly gapBytes: number;
	readonly bytes: number;
	readonly events: number;
	/** Hex; empty until sealed. */
	readonly sha256: string;
	/** DSSE envelope (binary common.v1.DsseEnvelope). */
	readonly manifest: Uint8Array | null;
	readonly purgedAtMs: number | null;
	/** Legal hold: set, it beats retention. */
	readonly heldAtMs: number | null;
	readonly holdReason: string;
}

export type RecordingPatch = Partial<
	Pick<
		RecordingRow,
		| 'state'
		| 'endedAtMs'
		| 'truncated'
		| 'gaps'
		| 'gapBytes'
		| 'bytes'
		| 'events'
		| 'sha256'
		| 'manifest'
		| 'purgedAtMs'
		| 'heldAtMs'
		| 'holdReason'
	>
>;

export interface RecordingFilter extends Page {
	readonly nodeId: string | null;
	readonly terminalId: string | null;
	readonly visibility: Visibility;
}

export interface Recordings {
	insert(row: RecordingRow): Plan<void>;
	get(id: string): Plan<RecordingRow | undefined>;
	/** The changed row; undefined when it is in another state. */
	update(id: string, patch: RecordingPatch, ifState: RecordingState): Plan<RecordingRow | undefined>;
	/** Newest first. */
	list(filter: RecordingFilter): Plan<readonly RecordingRow[]>;
	/** In order; at most `limit`. */
	listParts(terminalId: string, limit: number): Plan<readonly RecordingRow[]>;
	/** In the order of their ids, from the one after `afterId`; '' begins. */
	listRecording(replicaId: string, afterId: string, limit: number): Plan<readonly RecordingRow[]>;
	/** Purged, and the content isn't known to be gone. */
	listPurging(limit: number): Plan<readonly RecordingRow[]>;
	/** Sealed, not held, ended before; oldest first. */
	listExpired(endedBeforeMs: number, limit: number): Plan<readonly RecordingRow[]>;
}
