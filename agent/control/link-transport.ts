import type { ChannelRequest, ChannelResponse } from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import type {
	ConnectRequest,
	ConnectResponse,
	RenewCertificateRequest,
	RenewCertificateResponse,
	UploadOutputRequest,
	UploadOutputResponse,
} from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { AgentBundle, AgentCredential } from '../identity/identity.ts';

/**
 * How the agent reaches a gateway, without gRPC: grpc-transport.ts in production, streams in memory in the simulation,
 * both under test/contract/link-transport.
 *
 * Contract: listener calls come one at a time, in order, never before the call that opened the stream has returned.
 * `onClosed` comes exactly once and last, also after `close` of the connection and when there never was a connection.
 * A frame that was sent may be lost when the stream ends; none is lost, repeated or reordered before that.
 */
export interface LinkTransport {
	/** A connection of its own, with these credentials only. Nothing is dialled before the first stream. */
	open(target: LinkTarget): LinkConnection;
}

export interface LinkTarget {
	/** host:port. */
	readonly gateway: string;
	readonly trustDomain: string;
	readonly credential: AgentCredential;
	readonly bundle: AgentBundle;
}

export interface LinkConnection {
	connect(listener: ClientListener<ConnectResponse>): ClientStream<ConnectRequest>;
	/** On a connection of its own, so that bulk never holds up the link. */
	uploadOutput(listener: ClientListener<UploadOutputResponse>): ClientStream<UploadOutputRequest>;
	/** On a third connection: keystrokes wait for neither. */
	channel(listener: ClientListener<ChannelResponse>): ClientStream<ChannelRequest>;
	/** Rejects with a GpuaasError, whose reason is the server's. */
	renewCertificate(request: RenewCertificateRequest, signal: AbortSignal): Promise<RenewCertificateResponse>;
	/** Ends every stream of it. Idempotent. */
	close(): void;
}

export interface ClientStream<Out> {
	/** Takes the frame; false when no more should be sent before `onWritable`. Ignored after the end. */
	send(frame: Out): boolean;
	/** Nothing more will be sent; answers still come. */
	end(): void;
	cancel(): void;
}

export interface ClientListener<In> {
	onFrame(frame: In): void;
	onWritable(): void;
	onClosed(end: StreamEnd): void;
}

/** Why a stream is over. */
export interface StreamEnd {
	/** gRPC code name: `OK`, `UNAVAILABLE` ... */
	readonly code: string;
	/** common.v1.Reason without prefix when the server said one; else empty. */
	readonly reason: string;
	readonly message: string;
	readonly retryAfterMs: number;
}
