import { createSecureServer, type Http2SecureServer, type ServerHttp2Session } from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { Code, ConnectError, type ContextValues, createContextValues } from '@connectrpc/connect';
import { assert } from '../../kit/assert.ts';
import { sleep } from '../../kit/clock.ts';
import type { Registry } from '../../kit/exposition.ts';
import { isUuid, uuidv7 } from '../../kit/ids.ts';
import { isCorrelationId, withCorrelation } from '../../kit/log.ts';
import type { Authenticator } from '../app/iam/authenticate.ts';
import { EDGE_HEADERS } from '../app/login/edge-gate.ts';
import type { UseCase, UseCaseDeps } from '../app/use-case.ts';
import { connectAdapter, type Request, type Response } from '../connect/adapter.ts';
import { AuthGate } from './auth-gate.ts';
import { answerAuth } from './auth-http.ts';
import type { AuthRoutes } from './auth-routes.ts';
import { CALL_STATE, CallState, stateOf } from './call-state.ts';
import { clientAddress } from './client-address.ts';
import { Connections } from './connections.ts';
import { isDirect } from './direct-streams.ts';
import { createEarlyRefusal } from './interceptors/authorize.ts';
import { Addresses, createGate } from './interceptors/gate.ts';
import { Outcome } from './interceptors/outcome.ts';
import { createValidation } from './interceptors/validate.ts';
import { API_LIMITS_DEFAULT, type ApiLimits } from './limits.ts';
import { type ApiMethod, apiMethods } from './methods.ts';
import { ApiMetrics } from './metrics.ts';
import { metricsPages } from './metrics-page.ts';
import { directRoutes, registerRoutes } from './routes.ts';
import { boundEnd } from './stream-bounds.ts';
import {
	answerBrokenHttp1,
	answerUnreadable,
	headersTooLong,
	NO_SUCH_METHOD,
	NO_URL,
	unreadable,
} from './unreadable.ts';
import { API_USE_CASES } from './use-cases.ts';

/**
 * The listener for people and programs: Connect, gRPC and gRPC-web over TLS on HTTP/2 and HTTP/1.1 (so that curl with
 * JSON works). One chain serves every method: correlation -> rate -> authenticate -> validate -> authorize -> the use
 * case's own decision, idempotency, unit and audit (app/use-case). Nothing reaches a handler past the chain, and a
 * method without a complete policy keeps the process from starting. Called by main.ts.
 */
export interface ApiServerOptions {
	readonly deps: UseCaseDeps;
	readonly tls: ApiTls;
	/** Port 0: a free one. */
	readonly listen: { readonly host: string; readonly port: number; readonly trustedProxies?: readonly string[] };
	readonly authenticator: Authenticator;
	readonly registry: Registry;
	/** Logins of browsers, where a console client is configured. */
	readonly auth?: AuthRoutes;
	/** Of the access proxy in front of us, if there is one. */
	readonly edgeHeader?: string;
	readonly useCases?: readonly UseCase[];
	readonly limits?: Partial<ApiLimits>;
}

/** PEM, leaf first. */
export interface ApiTls {
	readonly chainPem: string;
	readonly keyPem: string;
}

/** Forward secrecy and authenticated encryption only, for the 1.2 that some clients still speak. */
const TLS12_CIPHERS =
	'ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:' +
	'ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305';

export class ApiServer implements AsyncDisposable {
	readonly #server: Http2SecureServer;
	readonly #connections: Connections;
	readonly #shutdown: AbortController;
	readonly #deps: UseCaseDeps;
	#closing: Promise<void> | undefined;

	constructor(server: Http2SecureServer, connections: Connections, shutdown: AbortController, deps: UseCaseDeps) {
		this.#server = server;
		this.#connections = connections;
		this.#shutdown = shutdown;
		this.#deps = deps;
	}

	get address(): AddressInfo {
		const address = this.#server.address();
		assert(address !== null && typeof address === 'object', 'the API listener is open');
		return address;
	}

	/** New handshakes get the new certificate; open connections keep theirs. */
	updateTls(tls: ApiTls): void {
		this.#server.setSecureContext(secureContext(tls));
	}

	/** Takes no new connections and requests, ends streams with UNAVAILABLE, waits for the rest, then cuts. Idempotent. */
	close(graceMs = 5000): Promise<void> {
		this.#closing ??= this.#drain(graceMs);
		return this.#closing;
	}

	async #drain(graceMs: number): Promise<void> {
		const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
		this.#shutdown.abort(new ConnectError('this replica is shutting down; send the request again', Code.Unavailable));
		this.#connections.goAway();
		// On HTTP/1, kept-alive connections that wait for nothing.
		if ('closeIdleConnections' in this.#server && typeof this.#server.closeIdleConnections === 'function')
			this.#server.closeIdleConnections();
		const done = new AbortController();
		const grace = sleep(this.#deps.clock, graceMs, done.signal);
		await Promise.race([closed, grace]);
		done.abort();
		this.#connections.destroyAll();
		await closed;
	}

	[Symbol.asyncDispose](): Promise<void> {
		return this.close();
	}
}

export async function createApiServer(options: ApiServerOptions): Promise<ApiServer> {
	const { deps, listen } = options;
	const limits: ApiLimits = { ...API_LIMITS_DEFAULT, ...options.limits };
	const methods = apiMethods(options.useCases ?? API_USE_CASES);
	const metrics = new ApiMetrics(options.registry);
	const shutdown = new AbortController();
	const { trustedProxies = [] } = listen;
	const connections = new Connections({ clock: deps.clock, log: deps.log, limits, metrics, trustedProxies });
	const server = createSecureServer({ ...secureContext(options.tls), ...protocolLimits(limits) });
	const connectionsCheckingIntervalMs = Math.min(5000, limits.headersTimeoutMs);
	Object.assign(server, {
		maxConnections: limits.connectionsMax,
		headersTimeout: limits.headersTimeoutMs,
		requestTimeout: limits.requestBodyTimeoutMs,
		keepAliveTimeout: limits.connectionIdleTimeoutMs,
		connectionsCheckingInterval: connectionsCheckingIntervalMs,
	});
	server.on('connection', (socket: Socket) => connections.admit(socket));
	server.on('session', (session: ServerHttp2Session) => connections.follow(session));
	server.on('tlsClientError', (error: Error, socket: TLSSocket) => {
		deps.log.debug('an API handshake failed', { error });
		// Node gives a handshake that failed or took too long to `clientError` too, and leaves the socket to whoever
		// listens there: what is written waits for a handshake that never comes.
		socket.destroy();
	});
	// Strangers' broken frames: without a listener they would be uncaught errors.
	server.on('sessionError', (error: Error) => deps.log.debug('an API session failed', { error }));
	server.on('clientError', (error: Error, socket: Duplex) => answerBrokenHttp1(error, socket, limits.headerBytesMax));
	const handle = requestHandler(options, limits, methods, metrics, shutdown.signal);
	server.on('request', (request, response) => handle(request, response));
	await new Promise<void>((resolve, reject) => {
		server.once('error', reject);
		server.listen(listen.port, listen.host, () => {
			server.removeListener('error', reject);
			resolve();
		});
	});
	return new ApiServer(server, connections, shutdown, deps);
}

function secureContext(tls: ApiTls) {
	return {
		cert: tls.chainPem,
		key: tls.keyPem,
		minVersion: 'TLSv1.2',
		ciphers: `TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:${TLS12_CIPHERS}`,
		honorCipherOrder: true,
	} as const;
}

function protocolLimits(limits: ApiLimits) {
	return {
		allowHTTP1: true,
		handshakeTimeout: limits.tlsHandshakeTimeoutMs,
		unknownProtocolTimeout: limits.tlsHandshakeTimeoutMs,
		maxHeaderListPairs: limits.headersMax,
		maxSessionInvalidFrames: 16,
		// Node's own defence behind ours, which names the peer in the log and counts.
		streamResetBurst: limits.resetsBurstPerConnection * 2,
		streamResetRate: limits.resetsPerSecondPerConnection * 2,
		maxHeaderSize: limits.headerBytesMax,
		settings: {
			maxConcurrentStreams: limits.streamsPerConnectionMax,
			// All streams of a connection together are held to its own window: see widenConnection.
			initialWindowSize: limits.streamWindowBytes,
			maxHeaderListSize: limits.headerBytesMax,
			enablePush: false,
		},
	};
}

/** The framework's decoder would put U+FFFD in place of bytes that are no text, and the task would run with that. */
const strictUtf8 = new TextDecoder('utf-8', { fatal: true });

const JSON_OPTIONS = {
	// Unknown fields would be ignored silently: a misspelt one must not look as if it worked.
	ignoreUnknownFields: false,
	textDecoder: {
		decode(bytes: Uint8Array): string {
			try {
				return strictUtf8.decode(bytes);
			} catch (cause) {
				throw new Error('the JSON is not valid UTF-8', { cause });
			}
		},
	},
};

function requestHandler(
	options: ApiServerOptions,
	limits: ApiLimits,
	methods: ReadonlyMap<string, ApiMethod>,
	metrics: ApiMetrics,
	shutdownSignal: AbortSignal,
): (request: Request, response: Response) => void {
	const { authenticator } = options;
	const { trustedProxies = [] } = options.listen;
	const deps: UseCaseDeps = { ...options.deps, methods };
	const states = new WeakMap<Request, CallState>();
	const outcome = new Outcome(deps, metrics, limits);
	const addresses = new Addresses(deps.clock, limits);
	const authGate = new AuthGate(addresses, limits);
	const chain = {
		requestGate: createGate({ clock: deps.clock, authenticator, methods, limits, outcome, addresses }),
		interceptors: [outcome.interceptor, createValidation(), createEarlyRefusal(deps.clock)],
		readMaxBytes: limits.requestBytesMax,
		writeMaxBytes: limits.responseBytesMax,
		maxTimeoutMs: limits.deadlineMaxMs,
		jsonOptions: JSON_OPTIONS,
		shutdownSignal,
	};
	const onFault = (values: ContextValues, error: unknown) => {
		const { correlationId } = stateOf({ values });
		withCorrelation(correlationId, () => deps.log.error('a request failed past the chain', { error }));
	};
	const direct = directRoutes(methods, deps, limits, { ...chain, onFault });
	const pages = metricsPages(deps, { ...chain, onFault });
	const contextValues = (request: Request) => createContextValues().set(CALL_STATE, states.get(request));
	const adapter = connectAdapter({
		...chain,
		routes: (router) => registerRoutes(router, methods, deps, limits),
		contextValues,
		fallback: (_request, response) => answerUnreadable(response, NO_SUCH_METHOD),
		onUnsent: (request, error, isGone) => {
			if (!isGone) onFault(contextValues(request), error);
			else deps.log.debug('a caller left while they were answered', { path: request.url, error });
		},
	});
	return (request, response) => {
		const sent = request.headers['x-correlation-id'];
		const correlationId = typeof sent === 'string' && isCorrelationId(sent) ? sent : uuidv7(deps.clock.now(), deps.rng);
		const peer = clientAddress(request.socket.remoteAddress ?? '', request.headers, trustedProxies);
		const state = new CallState(correlationId, peer, deps.clock.monotonic(), approvalIn(request));
		state.cut = () => cutStream(request);
		state.widen = () => widenConnection(request, limits.connectionWindowBytes);
		states.set(request, state);
		response.setHeader('x-correlation-id', correlationId);
		response.setHeader('cache-control', 'no-store');
		response.setHeader('strict-transport-security', 'max-age=31536000');
		boundTime(deps, limits, methods, metrics, request, response);
		const named = methodOf(methods, request);
		const kind = named?.useCase.kind;
		const isStream = kind === 'bidi' || kind === 'stream';
		if (isStream && 'stream' in request) boundEnd(request.stream, state, { clock: deps.clock, limits });
		if (headerBytes(request) > limits.headerBytesMax) {
			answerUnreadable(response, headersTooLong(limits.headerBytesMax));
			return;
		}
		const refused = unreadable(request, named?.method);
		if (refused !== undefined) {
			answerUnreadable(response, refused);
			return;
		}
		// No proxy of ours wrote it, so nobody may read it.
		for (const header of Object.values(EDGE_HEADERS)) if (header !== options.edgeHeader) delete request.headers[header];
		if (options.auth !== undefined && request.url?.startsWith('/auth/')) {
			void answerAuth(options.auth, request, response, { peer, gate: authGate });
			return;
		}
		if (pages(request, response, contextValues(request))) return;
		const straight = direct.get(request.url ?? '');
		if (straight !== undefined && 'stream' in request && 'stream' in response && isDirect(request)) {
			straight(request, response, contextValues(request));
			return;
		}
		try {
			adapter(request, response);
		} catch (error) {
			// The adapter throws on a request target or authority that makes no URL.
			deps.log.debug('a request has no usable URL', { error });
			answerUnreadable(response, NO_URL);
		}
	};
}

/** By its path: a GET has its request in the query. */
function methodOf(methods: ReadonlyMap<string, ApiMethod>, { url = '' }: Request): ApiMethod | undefined {
	return methods.get(url.split('?', 1)[0]?.slice(1) ?? '');
}

/** Of a two-person approval; what is no id names none. */
function approvalIn(request: Request): string | undefined {
	const sent = request.headers['x-gpuaas-approval'];
	return typeof sent === 'string' && isUuid(sent) ? sent : undefined;
}

/** HTTP/2 only announces its limit and peers may not know it yet; Node holds them to it from their acknowledgement on. */
function headerBytes(request: Request): number {
	return request.rawHeaders.reduce((sum, text) => sum + text.length, 0);
}

/** A body that trickles in, or a unary answer that nobody reads, ends with its stream (HTTP/2) or connection. */
function boundTime(
	{ clock }: UseCaseDeps,
	limits: ApiLimits,
	methods: ReadonlyMap<string, ApiMethod>,
	metrics: ApiMetrics,
	request: Request,
	response: Response,
): void {
	const cut = () => {
		metrics.cut('slow-request');
		cutStream(request);
	};
	const kind = methodOf(methods, request)?.useCase.kind;
	// The body of a stream in both directions ends with the stream.
	if (kind === 'bidi') return;
	const isStream = kind === 'stream';
	const bodyMs = limits.requestBodyTimeoutMs;
	const wholeMs = isStream ? Number.POSITIVE_INFINITY : limits.requestTimeoutMs;
	// One timer at a time: two for each request cost more than to look again.
	const look = () => {
		if (!request.readableEnded || wholeMs <= bodyMs) cut();
		else if (!isStream) timer = clock.setTimer(cut, wholeMs - bodyMs);
	};
	let timer = clock.setTimer(look, Math.min(bodyMs, wholeMs));
	response.once('close', () => timer.cancel());
}

function cutStream(request: Request): void {
	if ('stream' in request) request.stream.close(CANCEL);
	else request.socket.destroy();
}

/** Of a caller whom the gate has let through: a stranger gets no more than HTTP/2's 64 KiB for a whole connection. */
function widenConnection(request: Request, bytes: number): void {
	if (!('stream' in request)) return;
	const { session } = request.stream;
	// The server's own; a second call would raise it no further.
	if (session !== undefined && !session.destroyed && (session.state.effectiveLocalWindowSize ?? 0) < bytes)
		session.setLocalWindowSize(bytes);
}

/** NGHTTP2_CANCEL. */
const CANCEL = 8;
