import type { CloseCode } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';

/**
 * How everything else reaches a live agent; implemented by the gateway (grpc-js) and by the simulation. All calls are
 * hints on a live stream: they return whether a stream took them and never wait. What must happen is in the store and
 * is sent again by the dispatch reconciler when a session opens.
 */
export interface AgentSessions {
	/** Node ids with a welcomed session on this replica. */
	connected(): Iterable<string>;
	isConnected(nodeId: string): boolean;
	/** False when not connected or too many offers are unacknowledged. */
	offer(nodeId: string, offer: TaskOfferCommand): boolean;
	cancel(nodeId: string, cancel: TaskCancelCommand): boolean;
	renewNow(nodeId: string, reason: string): boolean;
	/** Sends the bundle to every session. */
	broadcastTrust(bundle: Uint8Array): void;
	/** Ends the node's stream; true when there was one. */
	close(nodeId: string, code: CloseCode, message: string): boolean;
	/** Ends every stream whose certificate has this serial; how many there were. */
	closeSerial(serial: string, message: string): number;
}

export interface TaskOfferCommand {
	readonly taskId: string;
	readonly attempt: number;
	readonly correlationId: string;
	/** Binary common.v1.DsseEnvelope. */
	readonly envelope: Uint8Array;
}

export interface TaskCancelCommand {
	readonly taskId: string;
	readonly attempt: number;
	readonly fencingToken: number;
	readonly graceMs: number;
	readonly reason: string;
	readonly correlationId: string;
}
