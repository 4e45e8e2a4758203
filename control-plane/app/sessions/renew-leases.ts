import type { AppDeps } from '../deps.ts';

/** What one heartbeat period of a session says. */
export interface LeaseRenewal {
	readonly nodeId: string;
	readonly epoch: number;
	/** Only when it changed. */
	readonly bundleSeqAcked?: number;
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
		for (const { nodeId, bundleSeqAcked } of renewals)
			if (bundleSeqAcked !== undefined) yield* tx.nodes.update(nodeId, { bundleSeqAcked });
		return outdated;
	});
	return new Set(superseded);
}
