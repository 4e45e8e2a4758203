import type { Socket } from 'node:net';
import {
	Server,
	type ServerDuplexStream,
	type ServerUnaryCall,
	type ServiceDefinition,
	type sendUnaryData,
} from '@grpc/grpc-js';
import { assert } from '../../kit/assert.ts';
import { sleep } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import type { SilenceLimits } from '../../kit/silence.ts';
import { SparingLog } from '../../kit/sparing-log.ts';
import { Caller, RateClass } from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import type { ChannelRequest, ChannelResponse } from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import {
	AgentLinkService,
	type ConnectRequest,
	type ConnectResponse,
	type RenewCertificateRequest,
	type RenewCertificateResponse,
	type UploadOutputRequest,
	type UploadOutputResponse,
} from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { grpcServiceDefinition } from '../../proto/grpc.ts';
import { checkedPolicy } from '../app/iam/method-policy.ts';
import { ACCEPTOR_LIMITS_DEFAULT, Acceptor, type AcceptorLimits, type Turned } from './acceptor.ts';
import { leafOf, serveStream, statusOfError } from './calls.ts';
import { Channels } from './channel.ts';
import {
	GATEWAY_TLS_LIMITS_DEFAULT,
	GatewayCredentials,
	type GatewayIdentity,
	type GatewayTlsLimits,
} from './credentials.ts';
import { serveDirect } from './direct-call.ts';
import { endHalfOpenStreams } from './half-open.ts';
import { AgentLink } from './link.ts';
import type { LinkDeps } from './link-deps.ts';
import { OutputUploads } from './output.ts';
import { Renewals } from './renew.ts';
import { endSilentPeers } from './silent-peers.ts';
import type { ServerStream, StreamListener } from './stream.ts';
import { raiseConnectionWindows } from './windows.ts';

/**
 * The gateway's listener: grpc-js behind our own TCP acceptor, TLS 1.3 with a node certificate required. It only
 * decodes, and hands streams to link.ts and output.ts. Composed by main.ts; agents dial it.
 */
export interface GatewayOptions {
	readonly host: string;
	/** 0: any. */
	readonly port: number;
	readonly identity: GatewayIdentity;
	readonly tls?: Partial<GatewayTlsLimits>;
	readonly acceptor?: Partial<AcceptorLimits>;
	readonly wire?: Partial<GatewayWireLimits>;
	readonly onTurnedAway?: (why: Turned) => void;
}

export interface GatewayWireLimits extends SilenceLimits {
	/** Receive window of one connection; that of a stream is in the TLS limits, beside the other settings. */
	readonly connectionWindowBytes: number;
	/** A connection without a stream. */
	readonly idleMs: number;
	readonly messageBytesMax: number;
}

export const GATEWAY_WIRE_LIMITS_DEFAULT: GatewayWireLimits = Object.freeze({
	connectionWindowBytes: 4 * 1024 * 1024,
	keepaliveMs: 10_000,
	keepaliveTimeoutMs: 5000,
	// A window of a channel at 28 kbit/s. Meanwhile the lease says whether the node is there, and a newer stream takes over.
	blockedMs: 300_000,
	idleMs: 60_000,
	messageBytesMax: 4 * 1024 * 1024,
});

export interface Gateway extends AsyncDisposable {
	readonly port: number;
	readonly link: AgentLink;
	/** New connections see this from now on; live streams go on. */
	swapIdentity(identity: GatewayIdentity): void;
	/** Open TCP connections. */
	connections(): number;
}

const PATH_PREFIX = `/${AgentLinkService.typeName}/`;
const UNARY_PATH = `${PATH_PREFIX}${AgentLinkService.method.renewCertificate.name}`;

/** Each RPC here has a pace of its own: sessions at their Hello, uploads by count, renewals by node. */
function checkPolicies(): void {
	for (const method of AgentLinkService.methods) {
		const { caller, rate, name } = checkedPolicy(method);
		assert(caller === Caller.AGENT && rate === RateClass.LINK, `${name} is served and limited as the agent link`);
	}
}

export async function startGateway(deps: LinkDeps, options: GatewayOptions): Promise<Gateway> {
	checkPolicies();
	const { clock, log } = deps.app;
	const wire = { ...GATEWAY_WIRE_LIMITS_DEFAULT, ...options.wire };
	const credentials = new GatewayCredentials(options.identity, { ...GATEWAY_TLS_LIMITS_DEFAULT, ...options.tls });
	const server = new Server({
		'grpc.max_connection_idle_ms': wire.idleMs,
		'grpc.max_receive_message_length': wire.messageBytesMax,
		'grpc.max_send_message_length': wire.messageBytesMax,
		// Counters for every connection, which nobody reads.
		'grpc.enable_channelz': 0,
	});
	const injector = server.createConnectionInjector(credentials);
	const acceptor = new Acceptor(
		clock,
		{ ...ACCEPTOR_LIMITS_DEFAULT, ...options.acceptor },
		(socket: Socket) => injector.injectConnection(socket),
		(why) => {
			log.debug('connection turned away', { why });
			options.onTurnedAway?.(why);
		},
	);
	const windows = raiseConnectionWindows(PATH_PREFIX, wire.connectionWindowBytes);
	const link = new AgentLink(deps);
	const uploads = new OutputUploads(deps);
	const channels = new Channels(deps);
	const renewals = new Renewals(deps);
	// An agent that is refused asks again for as long as it lives.
	const floods = new SparingLog(log, clock);
	const direct = { messageBytesMax: wire.messageBytesMax, unreadGraceMs: deps.limits.helloTimeoutMs };
	const serve = <In, Out>(
		call: ServerDuplexStream<In, Out>,
		accept: (stream: ServerStream<Out>) => StreamListener<In>,
	) => {
		acceptor.arrived(call.getPeer());
		serveStream(call, accept, (peer) => acceptor.cut(peer));
	};
	server.addService(grpcServiceDefinition(AgentLinkService) as unknown as ServiceDefinition, {
		connect: (call: ServerDuplexStream<ConnectRequest, ConnectResponse>) =>
			serve(call, (stream) => link.accept(stream)),
		uploadOutput: (call: ServerDuplexStream<UploadOutputRequest, UploadOutputResponse>) =>
			serve(call, (stream) => uploads.accept(stream)),
		channel: (call: ServerDuplexStream<ChannelRequest, ChannelResponse>) => {
			acceptor.arrived(call.getPeer());
			const cut = (peer: string) => acceptor.cut(peer);
			serveDirect(call, (stream) => channels.accept(stream), cut, clock, direct);
		},
		renewCertificate: (
			call: ServerUnaryCall<RenewCertificateRequest, RenewCertificateResponse>,
			done: sendUnaryData<RenewCertificateResponse>,
		) => {
			acceptor.arrived(call.getPeer());
			renewals.renew(leafOf(call) ?? new Uint8Array(), call.getPeer(), call.request).then(
				(response) => done(null, response),
				(error: unknown) => {
					const fault = GpuaasError.from(error);
					floods.warn('renewal refused', { peer: call.getPeer(), error });
					done(statusOfError(fault));
				},
			);
		},
	});
	link.start();
	const port = await acceptor.listen(options.host, options.port);
	const { helloTimeoutMs: unaryRequestMs, closeGraceMs: endedGraceMs } = deps.limits;
	const halfOpen = endHalfOpenStreams(clock, port, UNARY_PATH, { unaryRequestMs, endedGraceMs });
	const silent = endSilentPeers(clock, port, wire);
	return {
		port,
		link,
		swapIdentity: (identity) => credentials.swap(identity),
		connections: () => acceptor.connections,
		async [Symbol.asyncDispose]() {
			acceptor.stop();
			await link.shutdown();
			const untilMs = clock.monotonic() + deps.limits.closeGraceMs;
			while (link.streamCount > 0 && clock.monotonic() < untilMs) await sleep(clock, 10);
			link.cutAll();
			server.forceShutdown();
			acceptor.cutAll();
			windows[Symbol.dispose]();
			halfOpen[Symbol.dispose]();
			silent[Symbol.dispose]();
		},
	};
}
