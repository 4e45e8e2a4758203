import type { NodePatch } from '../../store/port/nodes.ts';
import type { AppDeps } from '../deps.ts';

/** What one heartbeat period of a session says; acknowledgements only when they changed. */
export interface LeaseRenewal {
	readonly nodeId: string;
	readonly epoch: number;
	readonly acknowledged?: Pick<NodePatch, 'bundleSeqAcked' | 'issuerKeyIdAcked'>;
}

/**
 * Extends the leases of all sessions that were heard since the last call in one unit of work, so that liveness costs a
 * few statements a tick whatever the size of the fleet. Returns the node ids that have a newer session elsewhere.
 */
export async function renewLeases(
	deps: AppDeps,
	renewals: readonly LeaseRenewal[],
	leaseTtlMs: number,
): Promise<ReadonlySet<string>> {
	if (renewals.length === 0) return new Set();
	const nowMs = await deps.store.now();
	const superseded = await deps.store.unit(function* (tx) {
		const outdated = yield* tx.sessions.renew(renewals, nowMs + leaseTtlMs);
		yield* tx.nodes.setLastSeen(
			renewals.map(({ nodeId }) => nodeId),
			nowMs,
		);
		for (const { nodeId, acknowledged } of renewals)
			if (acknowledged !== undefined) yield* tx.nodes.update(nodeId, acknowledged);
		return outdated;
	});
	return new Set(superseded);
}
