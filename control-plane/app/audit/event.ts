import type { RequestContext } from '../../context.ts';
import type { Custody } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';

/** What a use case says about the change that it makes; the rest of the record comes from its context. */
export interface AuditEvent {
	/** `<noun>.<verb>`. */
	readonly action: string;
	/** `nodes/<id>`, `tasks/<id>` ... */
	readonly target: string;
	readonly result: 'ok' | 'denied' | 'failed';
	/** Reason of a refusal, else empty. */
	readonly reason: string;
	readonly organization?: string;
	/** Of the node, when the record is about an agent's fact. */
	readonly custody?: Custody;
	/** Facts that may stand in clear. No personal data, no secrets. */
	readonly detail?: Readonly<Record<string, string | number | boolean>>;
	/** Personal or low-entropy facts: stored as commitments, clear text in the side table. */
	readonly personal?: Readonly<Record<string, string>>;
	readonly beforeSha256?: string;
	readonly afterSha256?: string;
}

/** Appends the record of `event` in the running unit and returns its leaf id. Implemented by app/audit/append.ts. */
export type AppendAudit = (tx: Tx, ctx: RequestContext, event: AuditEvent) => Plan<string>;
