import type { SecureServerOptions } from 'node:http2';
import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls';
import { ServerCredentials } from '@grpc/grpc-js';

/**
 * TLS of the agent listeners. A subclass, because what grpc-js offers is not enough: `createSsl` accepts TLS 1.2,
 * doesn't reject a client without certificate, has no handshake timeout; its file watcher drops every new connection
 * after one failed read; and the version floor must stand in the *context* options, since one in the constructor
 * options is lost at the first swap. test/integration/link-tls.test.ts holds this against the pinned grpc-js.
 *
 * Ticket keys are never set: each context makes its own, so that a session that was resumed was checked by this
 * process, and a swap ends resumption into the old trust.
 */
export interface GatewayIdentity {
	/** PEM, leaf first. */
	readonly chainPem: string;
	/** PKCS#8 PEM. */
	readonly keyPem: string;
	/** CAs that node certificates chain to, PEM: the roots, and issuing CAs that are known to be signed by one. */
	readonly clientAnchorsPem: string;
}

export interface GatewayTlsLimits {
	readonly handshakeTimeoutMs: number;
	/** Streams of one connection at once: the link, a renewal, the uploads of a node (`uploadsPerNodeMax`), its channels twice. */
	readonly streamsPerConnectionMax: number;
	/** Receive window of one stream (RFC 9113 section 6.9): 64 KiB would cap a link at 2.8 MB/s at 10 ms of round trip. */
	readonly streamWindowBytes: number;
	/** Streams opened and reset at once, and per second (rapid reset, CVE-2023-44487): past it the connection is closed. */
	readonly resetsBurst: number;
	readonly resetsPerSecond: number;
	/** Headers of a call: ours have about ten. */
	readonly headerPairsMax: number;
}

export const GATEWAY_TLS_LIMITS_DEFAULT: GatewayTlsLimits = Object.freeze({
	handshakeTimeoutMs: 5000,
	streamsPerConnectionMax: 512,
	streamWindowBytes: 1024 * 1024,
	resetsBurst: 64,
	resetsPerSecond: 16,
	headerPairsMax: 64,
});

function contextOptions({ chainPem, keyPem, clientAnchorsPem }: GatewayIdentity): SecureContextOptions {
	return { cert: chainPem, key: keyPem, ca: clientAnchorsPem, minVersion: 'TLSv1.3' };
}

/** pki/trust/bundle.ts says why. Which issuer is accepted is asked at every stream open, as ever. */
function anchoredContext(identity: GatewayIdentity): SecureContext {
	return createSecureContext({ ...contextOptions(identity), allowPartialTrustChain: true });
}

function constructorOptions(limits: GatewayTlsLimits, current: Current): SecureServerOptions {
	return {
		// `setSecureContext`, by which grpc-js swaps, drops `allowPartialTrustChain`. Who names us in SNI, as every agent
		// does, gets a context that has it; others get one with the same certificates and verify more.
		SNICallback: (_name, done) => done(null, current.context),
		requestCert: true,
		rejectUnauthorized: true,
		handshakeTimeout: limits.handshakeTimeoutMs,
		settings: {
			maxConcurrentStreams: limits.streamsPerConnectionMax,
			initialWindowSize: limits.streamWindowBytes,
			maxHeaderListSize: 16 * 1024,
		},
		streamResetBurst: limits.resetsBurst,
		streamResetRate: limits.resetsPerSecond,
		maxHeaderListPairs: limits.headerPairsMax,
		maxSessionInvalidFrames: 16,
		maxSessionRejectedStreams: 16,
		unknownProtocolTimeout: 1000,
	};
}

interface Current {
	context: SecureContext;
}

export class GatewayCredentials extends ServerCredentials {
	readonly #current: Current;

	constructor(identity: GatewayIdentity, limits: GatewayTlsLimits = GATEWAY_TLS_LIMITS_DEFAULT) {
		const current = { context: anchoredContext(identity) };
		super(constructorOptions(limits, current), contextOptions(identity));
		this.#current = current;
	}

	/** New connections are judged by this from now on; live ones go on. Throws, and changes nothing, for what can't be read. */
	swap(identity: GatewayIdentity): void {
		const context = anchoredContext(identity);
		this.updateSecureContextOptions(contextOptions(identity));
		this.#current.context = context;
	}

	override _equals(other: ServerCredentials): boolean {
		return this === other;
	}
}
