/** Limits of the agent link, with the reason of each default. AppLimits has those that other parts share. */
export interface LinkLimits {
	/** From the opening of a stream to its Hello: a stream that says nothing costs as much as an agent. */
	readonly helloTimeoutMs: number;
	/** Period of the batched renewal of leases: the most that an acknowledged heartbeat waits. */
	readonly tickMs: number;
	/** Period of the look at every session, for silence and expiry. */
	readonly sweepMs: number;
	/** Facts that wait for a commit in one session; past it the stream isn't read, so HTTP/2 holds the agent back. */
	readonly factsQueuedMax: number;
	readonly factBytesQueuedMax: number;
	/** Facts of one unit of work: a longer one would hold up the units of others. */
	readonly factsPerUnitMax: number;
	/** Commands that an agent may leave unacknowledged before it counts as stuck. */
	readonly commandsUnackedMax: number;
	/** What a closed stream has to take its Close frame before its connection is cut. */
	readonly closeGraceMs: number;
	/** 3 a lease; sets the lease of a large fleet. */
	readonly heartbeatsPerSecondMax: number;
	readonly reconnectFloorMs: number;
	/** After a start nobody is declared lost before this, nor before two leases. */
	readonly lostGraceMs: number;
	/** A deployment of the control plane sends everybody away at once: they come back spread over this. */
	readonly shutdownSpreadMs: number;
	/**
	 * Upload streams of one node at once, over all its connections, from their opening on. Twice what an agent opens, so
	 * that those of a connection that broke and wasn't noticed yet don't hold up the next.
	 */
	readonly uploadsPerNodeMax: number;
	/** Bytes of one upload that wait for the output store. */
	readonly uploadBytesQueuedMax: number;
	readonly telemetryPeriodMs: number;
	/** Renewals of one node: a certificate lives a day, and every one that was issued is a row for ever. */
	readonly renewalsPerMinutePerNode: number;
	readonly renewalsBurstPerNode: number;
	/** Sessions of one node: each writes its row and wakes whoever follows nodes. An honest agent backs off long before. */
	readonly sessionsPerMinutePerNode: number;
	readonly sessionsBurstPerNode: number;
}

export const LINK_LIMITS_DEFAULT: LinkLimits = Object.freeze({
	helloTimeoutMs: 10_000,
	tickMs: 500,
	sweepMs: 1000,
	factsQueuedMax: 1024,
	factBytesQueuedMax: 4 * 1024 * 1024,
	factsPerUnitMax: 256,
	commandsUnackedMax: 1024,
	closeGraceMs: 1000,
	heartbeatsPerSecondMax: 1000,
	reconnectFloorMs: 20_000,
	lostGraceMs: 300_000,
	shutdownSpreadMs: 5000,
	uploadsPerNodeMax: 128,
	uploadBytesQueuedMax: 1024 * 1024,
	telemetryPeriodMs: 15_000,
	renewalsPerMinutePerNode: 1,
	renewalsBurstPerNode: 5,
	sessionsPerMinutePerNode: 30,
	sessionsBurstPerNode: 60,
});
