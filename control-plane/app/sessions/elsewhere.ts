import { GpuaasError } from '../../../kit/error.ts';
import type { SessionRow } from '../../store/port/sessions.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';

/** Whether another replica has the node's link, and with it the streams of its channels. */
export function isElsewhere(
	session: SessionRow | undefined,
	{ replicaId, nowMs }: { readonly replicaId: string; readonly nowMs: number },
): session is SessionRow {
	if (session === undefined || session.replicaId === replicaId) return false;
	return session.disconnectedAtMs === null && session.lostAtMs === null && session.leaseUntilMs > nowMs;
}

/**
 * Throws NODE_ON_OTHER_REPLICA. Nothing is relayed between replicas: whoever asks comes again, by a way that leads to the
 * other. Locks nothing, because leases are renewed in the order of their nodes.
 */
export function* assertNotElsewhere(
	tx: Tx,
	{ replicaId }: { readonly replicaId: string },
	nodeId: string,
	nowMs: number,
): Plan<void> {
	const [session] = yield* tx.sessions.getMany([nodeId]);
	if (!isElsewhere(session, { replicaId, nowMs })) return;
	const there = session.replicaId;
	throw new GpuaasError({
		code: 'ABORTED',
		reason: 'NODE_ON_OTHER_REPLICA',
		message: `the node's link is at replica ${there}, and this is ${replicaId}, which can't reach its terminals; try again: through an address of that replica, or until a load balancer leads there`,
		metadata: { replica: there, 'retry-after': '1' },
	});
}
