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
	/** Asks the agent to start a channel and to open its stream. */
	openChannel(nodeId: string, open: ChannelOpenCommand): boolean;
	renewNow(nodeId: string, reason: string): boolean;
	/** The newest offer of this session that the agent could not take for its disk's sake. */
	declinedBy(nodeId: string): DeclinedTask | undefined;
	/** How often the agent samples. */
	planTelemetry(nodeId: string, plan: TelemetryPlanCommand): boolean;
	/** Asks the agent's telemetry ring; the answer comes by the gateway. */
	queryHistory(nodeId: string, query: HistoryQueryCommand): boolean;
	/** Sends the bundle to every session. */
	broadcastTrust(bundle: Uint8Array): void;
	/** Ends the node's stream; true when there was one. */
	close(nodeId: string, code: CloseCode, message: string): boolean;
	/** Ends every stream whose certificate has this serial; how many there were. */
	closeSerial(serial: string, message: string): number;
}

export interface DeclinedTask {
	readonly reason: string;
	readonly message: string;
	readonly atMs: number;
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

export interface TelemetryPlanCommand {
	readonly periodMs: number;
	/** Until `fastUntilMs` on the wall clock. */
	readonly fastPeriodMs: number;
	readonly fastUntilMs: number;
}

export interface HistoryQueryCommand {
	readonly queryId: string;
	/** As in proto/telemetry-schema. */
	readonly part: string;
	/** Empty: all things of that part. */
	readonly id: string;
	readonly keys: readonly string[];
	/** On the agent's clock. */
	readonly fromMs: number;
	readonly untilMs: number;
	readonly pointsMax: number;
}

export interface ChannelOpenCommand {
	readonly channelId: string;
	readonly correlationId: string;
	/** Binary common.v1.DsseEnvelope over a ChannelGrant. */
	readonly grant: Uint8Array;
}
