import { createSecureServer, type Http2SecureServer, type Http2Session, type SecureServerOptions } from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import type { SecureContextOptions } from 'node:tls';
import { createContextValues } from '@connectrpc/connect';
import { addressGroup } from '../../kit/address-group.ts';
import type { Clock } from '../../kit/clock.ts';
import { KeyedBuckets } from '../../kit/limits.ts';
import type { Logger } from '../../kit/log.ts';
import { SparingLog } from '../../kit/sparing-log.ts';
import type { EnrollmentDeps } from '../app/enrollment/deps.ts';
import { connectAdapter } from '../connect/adapter.ts';
import { channelKey, channelOf } from './channel.ts';
import { enrollmentRoutes } from './routes.ts';

/**
 * The enrollment listener: hosts that have no certificate yet, or only an expired one, so TLS asks for none and every
 * caller is a stranger until its first signature holds. Its own HTTP/2 server, because the channel binding comes from
 * the TLS socket. It must be reachable wherever gateways are, and never behind something that ends TLS. The certificate
 * chain includes the root, which joiners compare with the pin in their token.
 *
 * Everything is bounded: connections in all and of one address (kit/address-group.ts), bytes, streams, resets, time to the end of the TLS
 * handshake, idle time, and the whole life of a connection, which ends a slow-loris whatever it sends; and what is logged of
 * all who are turned away.
 */
export interface EnrollListenerLimits {
	readonly connectionsMax: number;
	readonly connectionsPerAddressMax: number;
	readonly handshakeTimeoutMs: number;
	readonly idleTimeoutMs: number;
	readonly connectionLifeMaxMs: number;
	readonly streamsPerConnectionMax: number;
	/** The TPM's event log has up to 1 MiB. */
	readonly requestBytesMax: number;
	/** Calls of one address: one attestation a second (SPIRE's figure), each of two calls; racks behind one NAT burst. */
	readonly callsPerSecondPerAddress: number;
	readonly callsBurstPerAddress: number;
}

export const ENROLL_LIMITS_DEFAULT: EnrollListenerLimits = Object.freeze({
	connectionsMax: 256,
	connectionsPerAddressMax: 64,
	handshakeTimeoutMs: 5000,
	idleTimeoutMs: 10_000,
	connectionLifeMaxMs: 30_000,
	streamsPerConnectionMax: 4,
	requestBytesMax: 1_310_720,
	callsPerSecondPerAddress: 2,
	callsBurstPerAddress: 64,
});

export interface EnrollServerOptions {
	readonly deps: EnrollmentDeps;
	readonly host: string;
	/** 0: a free one. */
	readonly port: number;
	readonly credential: ListenerCredential;
	readonly limits?: Partial<EnrollListenerLimits>;
}

/** PEM; from app/certificates/replica-certificate.ts. */
export interface ListenerCredential {
	/** Leaf, issuing CA, root. */
	readonly chainPem: string;
	readonly keyPem: string;
}

export class EnrollServer implements AsyncDisposable {
	readonly port: number;
	readonly #server: Http2SecureServer;
	readonly #connections: Connections;

	static async listen(options: EnrollServerOptions): Promise<EnrollServer> {
		const limits = { ...ENROLL_LIMITS_DEFAULT, ...options.limits };
		const { clock, log } = options.deps;
		const connections = new Connections(clock, log, limits);
		const server = createSecureServer({ ...serverOptions(limits), ...contextOptions(options.credential) });
		server.maxConnections = limits.connectionsMax;
		server.on('connection', (socket: Socket) => connections.admit(socket));
		server.on('session', (session: Http2Session) => connections.follow(session));
		// Strangers' broken handshakes are no news; without a listener they would be.
		server.on('tlsClientError', (error: Error) => log.debug('enroll handshake failed', { error }));
		const calls = new KeyedBuckets(clock, limits.callsPerSecondPerAddress, limits.callsBurstPerAddress);
		server.on(
			'request',
			connectAdapter({
				routes: enrollmentRoutes(options.deps, calls),
				grpcWeb: false,
				readMaxBytes: limits.requestBytesMax,
				contextValues: (request) =>
					createContextValues().set(channelKey, channelOf('stream' in request ? request.stream.session : undefined)),
				fallback: (_request, response) => {
					response.statusCode = 404;
					response.end();
				},
				onUnsent: (request, error, isGone) => {
					if (!isGone) log.error('an answer could not be sent', { path: request.url, error });
					else log.debug('a host left while it was answered', { path: request.url, error });
				},
			}),
		);
		await new Promise<void>((resolve, reject) => {
			server.once('error', reject);
			server.listen(options.port, options.host, () => {
				server.removeListener('error', reject);
				resolve();
			});
		});
		return new EnrollServer(server, connections);
	}

	private constructor(server: Http2SecureServer, connections: Connections) {
		this.#server = server;
		this.#connections = connections;
		this.port = portOf(server.address());
	}

	/** New connections get this certificate; running enrollments end with the old one. */
	swap(credential: ListenerCredential): void {
		this.#server.setSecureContext(contextOptions(credential));
	}

	get connections(): number {
		return this.#connections.size;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
		this.#connections.cutAll();
		await closed;
	}
}

function portOf(address: AddressInfo | string | null): number {
	return typeof address === 'object' && address !== null ? address.port : 0;
}

/** `minVersion` stands here because `setSecureContext` starts from nothing. Ticket keys are never set or shared. */
function contextOptions({ chainPem, keyPem }: ListenerCredential): SecureContextOptions {
	return { cert: chainPem, key: keyPem, minVersion: 'TLSv1.3' };
}

function serverOptions(limits: EnrollListenerLimits): SecureServerOptions {
	return {
		allowHTTP1: false,
		handshakeTimeout: limits.handshakeTimeoutMs,
		settings: { maxConcurrentStreams: limits.streamsPerConnectionMax, maxHeaderListSize: 16 * 1024 },
		maxSessionMemory: 4,
		maxHeaderListPairs: 64,
		maxSessionInvalidFrames: 16,
		maxSessionRejectedStreams: 16,
		// Rapid reset (CVE-2023-44487): an enrollment has no reason to reset anything.
		streamResetBurst: 16,
		streamResetRate: 4,
		unknownProtocolTimeout: 1000,
	};
}

/** Counts and ends connections. */
export class Connections {
	readonly #clock: Clock;
	readonly #log: Logger;
	readonly #refusals: SparingLog;
	readonly #limits: EnrollListenerLimits;
	readonly #sockets = new Set<Socket>();
	readonly #byAddress = new Map<string, number>();

	constructor(clock: Clock, log: Logger, limits: EnrollListenerLimits) {
		this.#clock = clock;
		this.#log = log;
		this.#refusals = new SparingLog(log, clock);
		this.#limits = limits;
	}

	get size(): number {
		return this.#sockets.size;
	}

	admit(socket: Socket): void {
		const address = addressGroup(socket.remoteAddress ?? '');
		const ofAddress = this.#byAddress.get(address) ?? 0;
		if (ofAddress >= this.#limits.connectionsPerAddressMax) {
			this.#refusals.warn('enroll connection refused: too many of one address', { address, connections: ofAddress });
			socket.destroy();
			return;
		}
		this.#sockets.add(socket);
		this.#byAddress.set(address, ofAddress + 1);
		const life = this.#clock.setTimer(() => socket.destroy(), this.#limits.connectionLifeMaxMs);
		socket.once('close', () => {
			life.cancel();
			this.#sockets.delete(socket);
			const left = (this.#byAddress.get(address) ?? 1) - 1;
			if (left === 0) this.#byAddress.delete(address);
			else this.#byAddress.set(address, left);
		});
	}

	follow(session: Http2Session): void {
		session.setTimeout(this.#limits.idleTimeoutMs, () => session.destroy());
		session.on('error', (error: Error) => this.#log.debug('enroll connection failed', { error }));
	}

	cutAll(): void {
		for (const socket of this.#sockets) socket.destroy();
	}
}
