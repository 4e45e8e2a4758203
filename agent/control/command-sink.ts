import type { Command } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';

/**
 * What the link does with a command: hand it over. `handle` returns after whatever must survive is in the journal;
 * only then is the command acknowledged. A command may come again (reconnect): handling it twice changes nothing.
 */
export interface CommandSink {
	handle(command: Command): void;
	/**
	 * Where it is there, what `handle` must keep is durable only after it: one sync for all commands that came together.
	 * The link calls it before it acknowledges them, and acknowledges nothing when it throws.
	 */
	commit?(): void;
	/** Offers that were not taken since the last call, because the journal can't be written; told once, after `commit`. */
	takeDeclined(): readonly DeclinedOffer[];
	/** At each Welcome, before any command: the highest fencing token that this node was given. */
	welcomed?(fencingSeq: bigint): void;
	/** Attempts that the process host has or the journal holds open: goes into Hello. */
	attempts(): readonly { readonly taskId: string; readonly attempt: number }[];
	/** For the heartbeat. */
	runningCount(): number;
}

/** As link.v1.TaskRefused. */
export interface DeclinedOffer {
	readonly taskId: string;
	readonly attempt: number;
	readonly fencingToken: bigint;
	readonly reason: string;
	readonly message: string;
	readonly retryable: boolean;
}

/** Kept output of an attempt, for UploadOutput: implemented by agent/tasks over the process host's spool. */
export interface OutputSource {
	/**
	 * Chunks from `fromOffset` until the attempt has ended and all was read; pull-based, so a slow link slows nothing. Throws
	 * when it can't be read to its end: the process host is lost, `signal` fired, the agent stops.
	 */
	read(taskId: string, attempt: number, fromOffset: bigint, signal: AbortSignal): AsyncIterable<OutputPiece>;
	/** Attempts whose output should be streamed now. */
	pending(): readonly { readonly taskId: string; readonly attempt: number; readonly fencingToken: bigint }[];
	/** Called when an attempt joins `pending`; one listener. */
	onPending(listener: () => void): void;
	/** The control plane has all of it. */
	stored(taskId: string, attempt: number): void;
}

export interface OutputPiece {
	readonly offset: bigint;
	readonly stream: 'stdout' | 'stderr';
	readonly data: Uint8Array;
	readonly droppedBytes: bigint;
}
