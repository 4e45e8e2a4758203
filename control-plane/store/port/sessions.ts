import type { Plan } from './unit.ts';

/** Which replica owns the live stream of a node, fenced by epoch: a lease, apart from the node's status. */
export interface SessionRow {
	readonly nodeId: string;
	readonly replicaId: string;
	readonly epoch: number;
	readonly instanceId: string;
	readonly connectedAtMs: number;
	readonly leaseUntilMs: number;
	/** Set when the stream ended; the lease may still run. */
	readonly disconnectedAtMs: number | null;
	/** Set when the lease ran out and the node was declared lost. */
	readonly lostAtMs: number | null;
}

export interface Sessions {
	get(nodeId: string): Plan<SessionRow | undefined>;
	getMany(nodeIds: readonly string[]): Plan<readonly SessionRow[]>;
	/** Replaces the row of the node if `row.epoch` is higher; false when a newer session is there. */
	put(row: SessionRow): Plan<boolean>;
	/** Extends leases in one statement; returns the node ids whose epoch was no longer the newest. */
	renew(
		sessions: readonly { readonly nodeId: string; readonly epoch: number }[],
		leaseUntilMs: number,
	): Plan<readonly string[]>;
	disconnect(nodeId: string, epoch: number, atMs: number): Plan<boolean>;
	/** Lease ran out before `nowMs` and not yet marked lost. */
	listExpired(nowMs: number, limit: number): Plan<readonly SessionRow[]>;
	markLost(nodeId: string, epoch: number, atMs: number): Plan<boolean>;
}
