/** Limits of telemetry on the control-plane side, with the reason of each default. */
export interface TelemetryLimits {
	/** A sample older than this is nobody's word any more: two periods of 15 s, and what a frame may be late. */
	readonly staleAfterMs: number;
	/** Parts that come with every fourth frame: five periods. */
	readonly slowStaleAfterMs: number;
	/** Nodes remembered; the one that was heard of longest ago goes. The fleet of the design, doubled. */
	readonly nodesMax: number;
	/** How far an agent's clock may be from ours: past it a frame is of another time, or its host's clock is wrong. */
	readonly skewMsMax: number;
	/** Frames of one node: one a second is the fastest plan. */
	readonly framesPerSecondMax: number;
	readonly framesBurstMax: number;
	/** Series of one node: 8 GPUs of the newest kind with 18 links each are 4,300. */
	readonly seriesPerNodeMax: number;
	/** Ids that a node may name in an hour and that its inventory doesn't have: each would be a series for ever. */
	readonly strangeIdsPerHourMax: number;
	/** The shortest period that somebody who looks may ask for, and how long at most. */
	readonly fastPeriodMs: number;
	readonly fastMsMax: number;
	/** Nodes on the fast plan at once. */
	readonly fastNodesMax: number;
	/** An agent that has its ring answers in milliseconds; one that doesn't must not hold up what rollups know. */
	readonly ringTimeoutMs: number;
	/** Questions to rings that wait for their answer. */
	readonly ringQueriesMax: number;
	/** Questions about history answered at once: some dashboards, each waiting for an agent for its three seconds. */
	readonly historyQueriesMax: number;
	/** Pages of one project: some Prometheus servers, each with some parts, twice in 15 s. */
	readonly projectPagesPerSecondMax: number;
	readonly projectPagesBurstMax: number;
	/** Nodes that one of these turns pays for: of the hundreds that one page may have each takes some milliseconds. */
	readonly projectPageNodesPerTurn: number;
	/** Pages that are being made or sent, each with its text in memory; of one project, so that it leaves room for others. */
	readonly projectPagesAtOnceMax: number;
	readonly projectPagesAtOncePerProjectMax: number;
	/** Some 60 nodes of 8 GPUs with all their links, by both spellings; more is asked for in parts. */
	readonly projectPageCharactersMax: number;
}

export const TELEMETRY_LIMITS_DEFAULT: TelemetryLimits = Object.freeze({
	staleAfterMs: 32_000,
	slowStaleAfterMs: 80_000,
	nodesMax: 20_000,
	skewMsMax: 300_000,
	framesPerSecondMax: 2,
	framesBurstMax: 20,
	seriesPerNodeMax: 6000,
	strangeIdsPerHourMax: 128,
	fastPeriodMs: 1000,
	fastMsMax: 600_000,
	fastNodesMax: 100,
	ringTimeoutMs: 3000,
	ringQueriesMax: 256,
	historyQueriesMax: 32,
	projectPagesPerSecondMax: 2,
	projectPagesBurstMax: 40,
	projectPageNodesPerTurn: 16,
	projectPagesAtOnceMax: 8,
	projectPagesAtOncePerProjectMax: 4,
	projectPageCharactersMax: 16 * 1024 * 1024,
});
