import type { Assignments } from './assignments.ts';
import type { AuditLog } from './audit.ts';
import type { Authority } from './authority.ts';
import type { Certificates } from './certificates.ts';
import type { Identities } from './identities.ts';
import type { JoinTokens } from './join-tokens.ts';
import type { Leases } from './leases.ts';
import type { Nodes } from './nodes.ts';
import type { Operations } from './operations.ts';
import type { Outbox } from './outbox.ts';
import type { RequestKeys } from './request-keys.ts';
import type { Sessions } from './sessions.ts';
import type { Tasks } from './tasks.ts';
import type { Plan } from './unit.ts';

/**
 * The only truth. One port, two dialects (SQLite, PostgreSQL), one contract suite (test/contract/store).
 *
 * Times are ms since the epoch, sizes bytes, unless a name says otherwise. `null` is SQL NULL. Every list is bounded
 * by its `limit`. Errors: GpuaasError STORE_UNAVAILABLE (try again), ALREADY_EXISTS (unique), DISK_FULL.
 */
export interface Store extends AsyncDisposable {
	readonly dialect: 'sqlite' | 'postgres';
	/**
	 * Runs `plan` as one unit of work and resolves after it is durable. A plan that throws rolls back alone and rejects
	 * with what it threw. Units that wait while another commit is under way share the next commit.
	 */
	unit<T>(plan: (tx: Tx) => Plan<T>, options?: UnitOptions): Promise<T>;
	/** Runs a plan that only reads, on one snapshot. */
	read<T>(plan: (tx: Tx) => Plan<T>): Promise<T>;
	/** Rejects when the store can't commit now: for readiness. */
	check(): Promise<void>;
	/** The store's own clock in ms since the epoch, never decreasing: what leases and usage are measured with. */
	now(): Promise<number>;
}

export interface UnitOptions {
	/**
	 * Of interest on PostgreSQL only: on SQLite units run one after another. `locking` (default): a row that a unit reads
	 * by its key is locked until the commit, and so is what it changes; a condition over several rows ("none is open")
	 * holds only if a unique index keeps it, or if all who change it read one row first, as the node's. `serializable`:
	 * every condition holds, at the price of running the plan again after a conflict; for rare units only.
	 */
	readonly isolation?: 'locking' | 'serializable';
}

export interface Tx {
	readonly nodes: Nodes;
	readonly sessions: Sessions;
	readonly tasks: Tasks;
	readonly assignments: Assignments;
	readonly certificates: Certificates;
	readonly joinTokens: JoinTokens;
	readonly identities: Identities;
	readonly authority: Authority;
	readonly audit: AuditLog;
	readonly operations: Operations;
	readonly outbox: Outbox;
	readonly requestKeys: RequestKeys;
	readonly leases: Leases;
}
