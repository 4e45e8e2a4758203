import { createServer, type Server, type Socket } from 'node:net';
import type { Clock, Timer } from '../../kit/clock.ts';
import { KeyedBuckets, TokenBucket } from '../../kit/limits.ts';

/**
 * The TCP side of a gateway: who may start a TLS handshake, and when. A handshake costs a signature on the one event
 * loop that also serves live streams, so handshakes are paced; sockets that came too early wait unread, in a bounded
 * line. What is over a limit is cut at once, without a byte of TLS.
 */
export interface AcceptorLimits {
	readonly connectionsMax: number;
	/** Open at once from one address: racks behind one NAT share it. */
	readonly connectionsPerAddressMax: number;
	/** Of one address. */
	readonly handshakesPerSecondPerAddress: number;
	readonly handshakesBurstPerAddress: number;
	/** Of everybody. */
	readonly handshakesPerSecond: number;
	/** Sockets that wait for their handshake. */
	readonly waitingMax: number;
}

export const ACCEPTOR_LIMITS_DEFAULT: AcceptorLimits = Object.freeze({
	connectionsMax: 25_000,
	connectionsPerAddressMax: 512,
	handshakesPerSecondPerAddress: 200,
	handshakesBurstPerAddress: 2000,
	handshakesPerSecond: 400,
	waitingMax: 4096,
});

export type Turned = 'connections' | 'address' | 'address_rate' | 'waiting';

export class Acceptor {
	readonly #clock: Clock;
	readonly #limits: AcceptorLimits;
	readonly #inject: (socket: Socket) => void;
	readonly #onTurnedAway: (why: Turned) => void;
	readonly #server: Server;
	readonly #addresses: KeyedBuckets;
	readonly #pace: TokenBucket;
	/** By `address:port` of the peer, as grpc-js names it. */
	readonly #sockets = new Map<string, Socket>();
	/** Open connections by address. */
	readonly #perAddress = new Map<string, number>();
	readonly #waiting = new Set<Socket>();
	#timer: Timer | undefined;
	#closed = false;

	constructor(
		clock: Clock,
		limits: AcceptorLimits,
		inject: (socket: Socket) => void,
		onTurnedAway: (why: Turned) => void,
	) {
		this.#clock = clock;
		this.#limits = limits;
		this.#inject = inject;
		this.#onTurnedAway = onTurnedAway;
		this.#addresses = new KeyedBuckets(clock, limits.handshakesPerSecondPerAddress, limits.handshakesBurstPerAddress);
		this.#pace = new TokenBucket(clock, limits.handshakesPerSecond, limits.handshakesPerSecond / 10);
		this.#server = createServer({ noDelay: true, pauseOnConnect: true }, (socket) => this.#accept(socket));
	}

	/** Resolves with the port. */
	listen(host: string, port: number): Promise<number> {
		return new Promise((resolve, reject) => {
			this.#server.once('error', reject);
			this.#server.listen({ host, port, backlog: 4096 }, () => {
				this.#server.removeListener('error', reject);
				const address = this.#server.address();
				resolve(typeof address === 'object' && address !== null ? address.port : port);
			});
		});
	}

	get connections(): number {
		return this.#sockets.size;
	}

	/** Cuts the connection of a peer that doesn't end by itself. */
	cut(peer: string): void {
		this.#sockets.get(peer)?.destroy();
	}

	/** Takes no new connections; live ones go on. */
	stop(): void {
		this.#closed = true;
		this.#timer?.cancel();
		this.#server.close();
		for (const socket of this.#waiting) socket.destroy();
	}

	cutAll(): void {
		for (const socket of [...this.#sockets.values()]) socket.destroy();
	}

	#accept(socket: Socket): void {
		const turned = this.#turnedAway(socket);
		if (turned !== undefined) {
			this.#onTurnedAway(turned);
			socket.destroy();
			return;
		}
		const address = addressOf(socket);
		const peer = `${address}:${socket.remotePort}`;
		this.#sockets.set(peer, socket);
		this.#perAddress.set(address, (this.#perAddress.get(address) ?? 0) + 1);
		// Errors are TLS's to report; without a listener one on a waiting socket would end the process.
		socket.on('error', () => {});
		socket.once('close', () => {
			this.#waiting.delete(socket);
			this.#left(address);
			if (this.#sockets.get(peer) === socket) this.#sockets.delete(peer);
		});
		this.#waiting.add(socket);
		this.#drain();
	}

	#turnedAway(socket: Socket): Turned | undefined {
		if (this.#closed || this.#sockets.size >= this.#limits.connectionsMax) return 'connections';
		const address = addressOf(socket);
		if ((this.#perAddress.get(address) ?? 0) >= this.#limits.connectionsPerAddressMax) return 'address';
		if (this.#addresses.take(address) > 0) return 'address_rate';
		return this.#waiting.size >= this.#limits.waitingMax ? 'waiting' : undefined;
	}

	#left(address: string): void {
		const count = (this.#perAddress.get(address) ?? 0) - 1;
		if (count > 0) this.#perAddress.set(address, count);
		else this.#perAddress.delete(address);
	}

	#drain(): void {
		if (this.#timer !== undefined) return;
		for (const socket of this.#waiting) {
			const waitMs = this.#pace.take();
			if (waitMs > 0) {
				this.#timer = this.#clock.setTimer(() => {
					this.#timer = undefined;
					this.#drain();
				}, waitMs);
				return;
			}
			this.#waiting.delete(socket);
			this.#inject(socket);
		}
	}
}

/** Read once while the socket lives: a closed one has none. */
function addressOf(socket: Socket): string {
	return socket.remoteAddress ?? '';
}
