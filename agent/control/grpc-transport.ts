import { subscribe } from 'node:diagnostics_channel';
import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2';
import {
	type ChannelOptions,
	Client,
	type ClientDuplexStream,
	type ServiceError,
	type StatusObject,
	status,
} from '@grpc/grpc-js';
import { present } from '../../kit/assert.ts';
import type { Clock } from '../../kit/clock.ts';
import { type ErrorCode, GpuaasError } from '../../kit/error.ts';
import { gatewayDnsName } from '../../pki/trust/spiffe.ts';
import {
	AgentLinkService,
	type RenewCertificateRequest,
	type RenewCertificateResponse,
} from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { type GrpcMethod, grpcServiceDefinition } from '../../proto/grpc.ts';
import { ChannelConnection, type ChannelConnectionLimits } from './channel-connection.ts';
import { encodeUpload } from './encode-upload.ts';
import { LinkCredentials } from './link-credentials.ts';
import { linkTls } from './link-tls.ts';
import type {
	ClientListener,
	ClientStream,
	LinkConnection,
	LinkTarget,
	LinkTransport,
	StreamEnd,
} from './link-transport.ts';

/**
 * The link over grpc-js: TLS 1.3 with the node's certificate, and a gateway that must prove to be a *replica* of our
 * trust domain. A path to our root isn't enough for that, since node certificates have one too: the server's leaf
 * must name `gateway.<trust domain>` and `/replica/<id>`, and come from an accepted issuer (pki/trust/identity.ts).
 *
 * Windows: 1 MiB a stream, 4 MiB a connection. HTTP/2's 64 KiB cap a link at 0.6 MB/s at 50 ms of round trip.
 */
export interface GrpcTransportLimits extends ChannelConnectionLimits {
	readonly renewTimeoutMs: number;
}

export const GRPC_TRANSPORT_LIMITS_DEFAULT: GrpcTransportLimits = Object.freeze({
	streamWindowBytes: 1024 * 1024,
	connectionWindowBytes: 4 * 1024 * 1024,
	dialTimeoutMs: 20_000,
	keepaliveMs: 10_000,
	keepaliveTimeoutMs: 5000,
	messageBytesMax: 4 * 1024 * 1024,
	renewTimeoutMs: 30_000,
});

const METHODS = grpcServiceDefinition(AgentLinkService);

function method(name: 'connect' | 'uploadOutput' | 'renewCertificate'): GrpcMethod {
	return present(METHODS[name], `the contract has no method ${name}`);
}

export class GrpcTransport implements LinkTransport {
	readonly #clock: Clock;
	readonly #limits: GrpcTransportLimits;

	constructor(clock: Clock, limits: Partial<GrpcTransportLimits> = {}) {
		this.#clock = clock;
		this.#limits = { ...GRPC_TRANSPORT_LIMITS_DEFAULT, ...limits };
		raiseConnectionWindows(this.#limits.connectionWindowBytes);
	}

	open(target: LinkTarget): LinkConnection {
		return new GrpcConnection(this.#clock, this.#limits, target);
	}
}

class GrpcConnection implements LinkConnection {
	readonly #clock: Clock;
	readonly #limits: GrpcTransportLimits;
	readonly #target: LinkTarget;
	readonly #calls = new Set<{ cancel(): void }>();
	#link: Client | undefined;
	#bulk: Client | undefined;
	#channels: ChannelConnection | undefined;
	#closed = false;

	constructor(clock: Clock, limits: GrpcTransportLimits, target: LinkTarget) {
		this.#clock = clock;
		this.#limits = limits;
		this.#target = target;
	}

	connect: LinkConnection['connect'] = (listener) => {
		if (this.#closed) return this.#overAtOnce(listener);
		this.#link ??= this.#dial();
		return this.#stream(this.#link, method('connect'), listener);
	};

	uploadOutput: LinkConnection['uploadOutput'] = (listener) => {
		if (this.#closed) return this.#overAtOnce(listener);
		this.#bulk ??= this.#dial();
		return this.#stream(this.#bulk, { ...method('uploadOutput'), requestSerialize: encodeUpload as never }, listener);
	};

	channel: LinkConnection['channel'] = (listener) => {
		if (this.#closed) return this.#overAtOnce(listener);
		this.#channels ??= new ChannelConnection(this.#clock, this.#limits, this.#target);
		return this.#channels.open(listener);
	};

	renewCertificate(request: RenewCertificateRequest, signal: AbortSignal): Promise<RenewCertificateResponse> {
		if (this.#closed || signal.aborted) {
			const message = 'the connection was closed before the renewal was asked for';
			return Promise.reject(new GpuaasError({ code: 'CANCELLED', reason: 'UNREACHABLE', message }));
		}
		this.#link ??= this.#dial();
		const client = this.#link;
		const { path, requestSerialize, responseDeserialize } = method('renewCertificate');
		return new Promise((resolve, reject) => {
			const call = client.makeUnaryRequest(
				path,
				requestSerialize,
				responseDeserialize,
				request,
				{ deadline: this.#clock.now() + this.#limits.renewTimeoutMs },
				(error, response) => {
					this.#calls.delete(call);
					signal.removeEventListener('abort', cancel);
					if (error !== null) reject(errorOf(error));
					else resolve(response as RenewCertificateResponse);
				},
			);
			const cancel = () => call.cancel();
			this.#calls.add(call);
			signal.addEventListener('abort', cancel, { once: true });
		});
	}

	close(): void {
		this.#closed = true;
		// Closing a channel waits for its calls; on a dead connection that would be for ever.
		for (const call of [...this.#calls]) call.cancel();
		this.#link?.close();
		this.#bulk?.close();
		this.#channels?.close();
	}

	/** A closed channel throws instead. */
	#overAtOnce<Out, In>(listener: ClientListener<In>): ClientStream<Out> {
		const end = { code: 'CANCELLED', reason: '', message: 'the connection was closed', retryAfterMs: 0 };
		this.#clock.defer(() => listener.onClosed(end));
		return { send: () => false, end: () => {}, cancel: () => {} };
	}

	#dial(): Client {
		const { gateway, trustDomain } = this.#target;
		const { secureContext, checkServerIdentity } = linkTls(this.#clock, this.#target);
		const tls = new LinkCredentials(secureContext, { checkServerIdentity });
		const { streamWindowBytes, keepaliveMs, keepaliveTimeoutMs, messageBytesMax } = this.#limits;
		const options: ChannelOptions = {
			// Racks without DNS dial addresses; whatever is dialled, this is the name that is checked.
			'grpc.ssl_target_name_override': gatewayDnsName(trustDomain),
			'grpc.default_authority': gatewayDnsName(trustDomain),
			'grpc-node.flow_control_window': streamWindowBytes,
			'grpc.keepalive_time_ms': keepaliveMs,
			'grpc.keepalive_timeout_ms': keepaliveTimeoutMs,
			'grpc.max_receive_message_length': messageBytesMax,
			'grpc.max_send_message_length': messageBytesMax,
			// Else two clients of one address share a connection, also one that is dead or has older credentials.
			'grpc.use_local_subchannel_pool': 1,
			// The environment doesn't decide where a root daemon connects.
			'grpc.enable_http_proxy': 0,
			'grpc.enable_retries': 0,
			'grpc.service_config_disable_resolution': 1,
			'grpc.enable_channelz': 0,
		};
		return new Client(gateway, tls, options);
	}

	#stream<Out, In>(
		client: Client,
		{ path, requestSerialize, responseDeserialize }: GrpcMethod,
		listener: ClientListener<In>,
	) {
		const call = client.makeBidiStreamRequest(
			path,
			requestSerialize as never,
			responseDeserialize as never,
		) as ClientDuplexStream<Out, In>;
		this.#calls.add(call);
		let over = false;
		call.on('data', (frame: In) => {
			if (!over) listener.onFrame(frame);
		});
		call.on('drain', () => {
			if (!over) listener.onWritable();
		});
		// Reported by `status` too; without a listener it would end the process.
		call.on('error', () => {});
		call.on('status', (ended: StatusObject) => {
			if (over) return;
			over = true;
			this.#calls.delete(call);
			listener.onClosed(endOf(ended));
		});
		const stream: ClientStream<Out> = {
			send: (frame) => !over && call.write(frame),
			end: () => {
				if (!over) call.end();
			},
			cancel: () => call.cancel(),
		};
		return stream;
	}
}

function endOf({ code, details, metadata }: Pick<StatusObject, 'code' | 'details' | 'metadata'>): StreamEnd {
	const reason = metadata.get('gpuaas-reason')[0];
	const retryAfterS = Number(metadata.get('retry-after')[0] ?? 0);
	return {
		code: status[code] ?? 'UNKNOWN',
		reason: typeof reason === 'string' ? reason : '',
		message: details,
		retryAfterMs: Number.isFinite(retryAfterS) ? Math.min(Math.max(0, retryAfterS * 1000), 3_600_000) : 0,
	};
}

function errorOf(error: ServiceError): GpuaasError {
	const { code, reason, message, retryAfterMs } = endOf(error);
	return new GpuaasError({
		code: code as ErrorCode,
		reason: reason === '' ? 'UNREACHABLE' : reason,
		message,
		...(retryAfterMs === 0 ? {} : { metadata: { retry_after_ms: String(retryAfterMs) } }),
	});
}

const CHANNEL = 'http2.client.stream.created';
const PATH_PREFIX = `/${AgentLinkService.typeName}/`;
let windowBytes: number | undefined;

/**
 * Settings raise the windows of streams only; that of a connection needs its session, which grpc-js keeps to itself and
 * sets to the stream's. Once a process, for calls of the link.
 */
function raiseConnectionWindows(bytes: number): void {
	const isFirst = windowBytes === undefined;
	windowBytes = bytes;
	if (!isFirst) return;
	const raised = new WeakSet<ClientHttp2Session>();
	subscribe(CHANNEL, (message) => {
		const { stream, headers } = message as {
			readonly stream: ClientHttp2Stream;
			readonly headers: IncomingHttpHeaders;
		};
		const session = stream.session as ClientHttp2Session | undefined;
		if (session === undefined || session.destroyed || raised.has(session) || windowBytes === undefined) return;
		// Channels do it themselves, and open streams before they are connected.
		if (session.connecting) return;
		if (!(headers[':path'] as string | undefined)?.startsWith(PATH_PREFIX)) return;
		raised.add(session);
		session.setLocalWindowSize(windowBytes);
	});
}
