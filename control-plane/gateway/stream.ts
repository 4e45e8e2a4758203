import type { ErrorCode } from '../../kit/error.ts';

/**
 * One bidirectional stream as the link sees it, without gRPC: server.ts makes them from calls, the simulation in
 * memory. The gateway's logic stands on this, so both run the same code.
 *
 * Contract: listener calls come one at a time and in order, none before `accept` returned, none after `onClosed`,
 * which comes exactly once. Frames were decoded and are within the size limit; nothing else is checked.
 */
export interface ServerStream<Out> {
	/** `address:port`, for logs. */
	readonly peer: string;
	/** Raw leaf of the TLS client certificate; TLS proved possession and a chain to a trusted root, nothing more. */
	readonly leafDer: Uint8Array;
	/** Takes the frame; false when no more should be sent before `onWritable`. Nothing after `end` or `onClosed`. */
	send(frame: Out): boolean;
	/** Ends after what was sent. */
	end(status: StreamStatus): void;
	/** Cuts the connection now, with all that it carries. */
	destroy(): void;
	/** While paused `onFrame` isn't called (a frame on its way may still come) and the peer is held back. */
	pause(): void;
	resume(): void;
}

export interface StreamListener<In> {
	onFrame(frame: In): void;
	/** After `send` returned false. */
	onWritable(): void;
	/** The peer sends no more. */
	onEnd(): void;
	onClosed(): void;
}

export interface StreamStatus {
	readonly code: ErrorCode | 'OK';
	/** Value of common.v1.Reason without prefix; empty when OK. */
	readonly reason: string;
	readonly message: string;
	readonly retryAfterMs?: number;
}
