import type { Custody } from './nodes.ts';
import type { Plan } from './unit.ts';

/**
 * What an agent said that bears on health (telemetry.v1.HealthFact), as it said it: nobody judged it yet. Kept apart by
 * custody, so that what a tenant's agent says can't push out what the platform saw.
 */
export interface HealthFactRow {
	/** UUIDv7: rises with time, within a batch with `factSeq`. */
	readonly id: string;
	readonly nodeId: string;
	/** Of the node when it came. */
	readonly custody: Custody;
	/** Of the fact in the agent's journal, which may begin anew. */
	readonly factSeq: number;
	/** HealthFactKind without its prefix: XID, GPU_LOST. */
	readonly kind: string;
	/** GPU or slice: UUID. NIC: device. Disk: id in the inventory. Empty for the node. */
	readonly subjectId: string;
	/** xid:79; empty where the kind says it all. */
	readonly code: string;
	/** Binary telemetry.v1.HealthFact: 2 KiB at most. */
	readonly fact: Uint8Array;
	readonly receivedAtMs: number;
}

export interface HealthFacts {
	insert(row: HealthFactRow): Plan<void>;
	/** Of a node and custody: leaves the newest `keepMax`, and none that came before `receivedFromMs`. */
	trim(nodeId: string, custody: Custody, keepMax: number, receivedFromMs: number): Plan<void>;
	/** Of all custodies, newest first. */
	ofNode(nodeId: string, limit: number): Plan<readonly HealthFactRow[]>;
	/** Above the id, oldest first. */
	ofNodeAfter(nodeId: string, afterId: string, limit: number): Plan<readonly HealthFactRow[]>;
}
