import type { SessionRow } from '../../store/port/sessions.ts';
import type { TerminalRow } from '../../store/port/terminals.ts';
import { isElsewhere } from '../sessions/elsewhere.ts';
import type { Relay } from './relay.ts';

/** What says who is attached to a terminal, as one replica sees it. */
export interface Attendance {
	readonly relay: Relay | undefined;
	/** Of its node. */
	readonly session: SessionRow | undefined;
	readonly replicaId: string;
	readonly nowMs: number;
}

/**
 * What `detachedAtMs` of an open terminal should be by now, or undefined when it is right, or for another replica to say.
 * A control plane that died wrote nothing down: nobody is attached to what it relayed, and the grace must begin.
 */
export function attendance(row: TerminalRow, at: Attendance): { readonly detachedAtMs: number | null } | undefined {
	const isAttended = (at.relay?.viewers.size ?? 0) > 0;
	if (isAttended) return row.detachedAtMs === null ? undefined : { detachedAtMs: null };
	if (row.detachedAtMs !== null) return undefined;
	return at.relay?.isConnected === true || !isElsewhere(at.session, at) ? { detachedAtMs: at.nowMs } : undefined;
}
