/**
 * Task output, outside the database: one append-only log an attempt, addressed by the offset that the process host
 * counts (bytes of both streams together, in order of arrival). Files by default, an object store later.
 */
export interface OutputChunk {
	readonly offset: number;
	readonly stream: 'stdout' | 'stderr';
	readonly data: Uint8Array;
	/** Bytes that the cap left out just before this chunk. */
	readonly droppedBytes: number;
}

export interface OutputStore {
	/** Where to go on: everything below is durable or will be after `sync`. 0 for an unknown attempt. */
	storedOffset(taskId: string, attempt: number): Promise<number>;
	/**
	 * Appends chunks that follow on; overlap with what is stored is ignored, a gap is an error. Returns the new offset.
	 * The attempt never takes more than `storedBytesMax` with its framing: past it the chunks that fit are kept, the first
	 * that doesn't is kept as a gap, so that readers see that something is missing, and OUTPUT_TOO_LARGE is thrown.
	 */
	append(taskId: string, attempt: number, chunks: readonly OutputChunk[], storedBytesMax: number): Promise<number>;
	/** Makes everything appended durable. */
	sync(taskId: string, attempt: number): Promise<void>;
	/** Chunks from the one that contains `offset` on, cut to begin there, together at most `bytesMax`. */
	read(taskId: string, attempt: number, offset: number, bytesMax: number): Promise<readonly OutputChunk[]>;
	remove(taskId: string): Promise<void>;
	/** Rejects with DISK_FULL below the free-space floor. */
	check(): Promise<void>;
}
