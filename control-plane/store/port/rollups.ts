/**
 * Telemetry history of a few days, beside the truth: a file of its own that no backup holds and that may be deleted at
 * any time. Losing it costs graphs, never a decision. Called by app/telemetry; each replica keeps the history of the
 * nodes that it hears.
 */
export interface RollupChunk {
	readonly nodeId: string;
	/** Start of the first minute, ms. */
	readonly fromMs: number;
	/** End of the last minute, ms. */
	readonly untilMs: number;
	/** app/telemetry/chunk. */
	readonly blob: Uint8Array;
}

export interface Rollups extends AsyncDisposable {
	/** All or none. Throws DISK_FULL, STORE_UNAVAILABLE. */
	append(chunks: readonly RollupChunk[]): Promise<void>;
	/** Chunks of one node that touch the half-open span, oldest first, at most `chunksMax`. */
	read(nodeId: string, fromMs: number, untilMs: number, chunksMax: number): Promise<readonly RollupChunk[]>;
	/** Deletes a bounded number of the oldest chunks: those that ended before `beforeMs`, or any while above `bytesMax`. */
	trim(beforeMs: number, bytesMax: number): Promise<number>;
	/** Of what is kept; what was deleted and not yet used again doesn't count. */
	bytes(): Promise<number>;
}
