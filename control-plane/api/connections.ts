import { constants, type Http2Session, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import type { Clock, Timer } from '../../kit/clock.ts';
import { TokenBucket } from '../../kit/limits.ts';
import type { Logger } from '../../kit/log.ts';
import { whenSilent } from '../../kit/silence.ts';
import { isWithin } from '../app/iam/cidr.ts';
import type { ApiLimits } from './limits.ts';
import type { ApiMetrics } from './metrics.ts';

/**
 * The connections of the API listener: how many, how many of one address, and which ones must go: silent ones, ones
 * whose peer is not heard any more, and ones that open streams only to reset them (CVE-2023-44487). HTTP/1's own
 * time limits are the server's (headersTimeout, requestTimeout, keepAliveTimeout).
 */
export class Connections {
	readonly #clock: Clock;
	readonly #log: Logger;
	readonly #limits: ApiLimits;
	readonly #metrics: ApiMetrics;
	readonly #trustedProxies: readonly string[];
	readonly #sockets = new Set<Socket>();
	readonly #perAddress = new Map<string, number>();
	readonly #sessions = new Set<Http2Session>();

	constructor(options: {
		readonly clock: Clock;
		readonly log: Logger;
		readonly limits: ApiLimits;
		readonly metrics: ApiMetrics;
		/** All of their callers share their addresses. */
		readonly trustedProxies?: readonly string[];
	}) {
		this.#clock = options.clock;
		this.#log = options.log;
		this.#limits = options.limits;
		this.#metrics = options.metrics;
		this.#trustedProxies = options.trustedProxies ?? [];
	}

	/** Of a TCP connection, before its TLS handshake. */
	admit(socket: Socket): void {
		const address = socket.remoteAddress ?? '';
		const ofAddress = this.#perAddress.get(address) ?? 0;
		const isTooMany = ofAddress >= this.#limits.connectionsPerAddressMax && !isWithin(this.#trustedProxies, address);
		if (isTooMany || this.#sockets.size >= this.#limits.connectionsMax) {
			this.#metrics.cut(isTooMany ? 'address' : 'connections');
			socket.destroy();
			return;
		}
		this.#sockets.add(socket);
		this.#perAddress.set(address, ofAddress + 1);
		this.#metrics.connections.set(this.#sockets.size);
		socket.once('close', () => {
			this.#sockets.delete(socket);
			const left = (this.#perAddress.get(address) ?? 1) - 1;
			if (left === 0) this.#perAddress.delete(address);
			else this.#perAddress.set(address, left);
			this.#metrics.connections.set(this.#sockets.size);
		});
	}

	/** An HTTP/2 session of an admitted connection. */
	follow(session: ServerHttp2Session): void {
		const { resetsPerSecondPerConnection, resetsBurstPerConnection, pingPeriodMs, pingTimeoutMs } = this.#limits;
		const resets = new TokenBucket(this.#clock, resetsPerSecondPerConnection, resetsBurstPerConnection);
		let streams = 0;
		let idle = this.#cutWhenSilent(session);
		const limits = { keepaliveMs: pingPeriodMs, keepaliveTimeoutMs: pingTimeoutMs };
		const silence = whenSilent(this.#clock, session, limits, () => this.#cut(session));
		this.#sessions.add(session);
		session.on('stream', (stream: ServerHttp2Stream) => {
			streams += 1;
			idle.cancel();
			stream.once('close', () => {
				streams -= 1;
				if (streams === 0 && !session.destroyed) idle = this.#cutWhenSilent(session);
				if (stream.rstCode === constants.NGHTTP2_CANCEL && resets.take() > 0) this.#calm(session);
			});
		});
		session.once('close', () => {
			idle.cancel();
			silence.cancel();
			this.#sessions.delete(session);
		});
	}

	/** No new requests on any HTTP/2 session; those under way may end. */
	goAway(): void {
		for (const session of this.#sessions) session.close();
	}

	/** Cuts whatever is left. */
	destroyAll(): void {
		for (const socket of this.#sockets) socket.destroy();
	}

	#cutWhenSilent(session: Http2Session): Timer {
		return this.#clock.setTimer(() => this.#cut(session), this.#limits.connectionIdleTimeoutMs);
	}

	#cut(session: Http2Session): void {
		this.#metrics.cut('silent');
		session.destroy();
	}

	#calm(session: Http2Session): void {
		if (session.destroyed) return;
		this.#log.warn('a connection resets its requests too fast and is cut', { peer: session.socket?.remoteAddress });
		this.#metrics.cut('resets');
		session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM);
		session.destroy();
	}
}
