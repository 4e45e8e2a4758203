import type { Plan } from './unit.ts';

/** An event written with the change that caused it, published after commit: CloudEvents later, wake-ups now. */
export interface OutboxRow {
	readonly id: string;
	/** `tasks.queued`, `tasks.changed`, `nodes.changed`, `certificates.revoked`, `assignments.ended`, `authority.changed` ... */
	readonly topic: string;
	/** The object's id. */
	readonly key: string;
	readonly atMs: number;
}

export interface Outbox {
	append(row: OutboxRow): Plan<void>;
	/** Oldest first, committed only (tolerates out-of-order commits: takes and deletes by id). */
	take(limit: number): Plan<readonly OutboxRow[]>;
}
