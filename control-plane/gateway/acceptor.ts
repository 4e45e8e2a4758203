import { createServer, type Server, type Socket } from 'node:net';
import { addressGroup } from '../../kit/address-group.ts';
import type { Clock, Timer } from '../../kit/clock.ts';
import { KeyedBuckets, TokenBucket } from '../../kit/limits.ts';
import { type Origin, WaitingLine } from './waiting-line.ts';

/**
 * The TCP side of a gateway: who may start a TLS handshake, and when. A handshake costs a signature on the one event
 * loop that also serves live streams, so handshakes are paced; sockets that came too early wait unread, in a bounded
 * line. What is over a limit is cut at once, without a byte of TLS.
 *
 * How many are under way is bounded too: a pace alone, when either side is slower than it, begins handshakes until all
 * of them take longer than their timeout, and then none is ever finished. Places and turns until the first stream are
 * shared out by group of addresses, and in it by address: strangers who say nothing, and come back, hold those of theirs
 * and no others. What is open and known is counted by address alone: all nodes of a segment are in one IPv6 /64.
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
	/** Connections between the begin of their handshake and their first stream. */
	readonly handshakesAtOnceMax: number;
	/** Of one group of addresses. */
	readonly handshakesAtOncePerGroupMax: number;
	/** From the begin of its handshake; a connection that opens no stream by then is cut. */
	readonly firstStreamMs: number;
	/** Sockets that wait for their handshake. */
	readonly waitingMax: number;
}

export const ACCEPTOR_LIMITS_DEFAULT: AcceptorLimits = Object.freeze({
	connectionsMax: 25_000,
	connectionsPerAddressMax: 512,
	handshakesPerSecondPerAddress: 200,
	handshakesBurstPerAddress: 2000,
	handshakesPerSecond: 400,
	// One takes some 2.3 ms of CPU time (bench reconnect-storm, the bare one): two seconds of work; 16 groups hold them all.
	handshakesAtOnceMax: 1024,
	handshakesAtOncePerGroupMax: 64,
	firstStreamMs: 10_000,
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
	readonly #perAddress = new Counts();
	readonly #waiting: WaitingLine<Socket>;
	/** Each with the timer that cuts it. */
	readonly #shaking = new Map<Socket, { readonly group: string; readonly timer: Timer }>();
	readonly #shakingPerGroup = new Counts();
	readonly #groupOf: (address: string) => string;
	#timer: Timer | undefined;
	#closed = false;

	constructor(
		clock: Clock,
		limits: AcceptorLimits,
		inject: (socket: Socket) => void,
		onTurnedAway: (why: Turned) => void,
		groupOf = addressGroup,
	) {
		this.#groupOf = groupOf;
		this.#clock = clock;
		this.#limits = limits;
		this.#inject = inject;
		this.#onTurnedAway = onTurnedAway;
		this.#addresses = new KeyedBuckets(clock, limits.handshakesPerSecondPerAddress, limits.handshakesBurstPerAddress);
		this.#waiting = new WaitingLine(limits.waitingMax);
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

	/** A stream of `peer` has begun: its handshake is over. */
	arrived(peer: string): void {
		const socket = this.#sockets.get(peer);
		if (socket !== undefined) this.#shook(socket);
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
		// Read once while the socket lives: a closed one has none.
		const { remoteAddress = '', remotePort } = socket;
		const origin: Origin = { group: this.#groupOf(remoteAddress), address: remoteAddress };
		const peer = `${remoteAddress}:${remotePort}`;
		this.#sockets.set(peer, socket);
		this.#perAddress.add(remoteAddress);
		// Errors are TLS's to report; without a listener one on a waiting socket would end the process.
		socket.on('error', () => {});
		socket.once('close', () => {
			this.#waiting.delete(origin, socket);
			this.#perAddress.remove(remoteAddress);
			if (this.#sockets.get(peer) === socket) this.#sockets.delete(peer);
			this.#shook(socket);
		});
		const leaves = this.#waiting.add(origin, socket);
		if (leaves !== undefined) {
			this.#onTurnedAway('waiting');
			leaves.destroy();
		}
		this.#drain();
	}

	#turnedAway(socket: Socket): Turned | undefined {
		if (this.#closed || this.#sockets.size >= this.#limits.connectionsMax) return 'connections';
		const address = socket.remoteAddress ?? '';
		if (this.#perAddress.of(address) >= this.#limits.connectionsPerAddressMax) return 'address';
		return this.#addresses.take(address) > 0 ? 'address_rate' : undefined;
	}

	#shook(socket: Socket): void {
		const shaking = this.#shaking.get(socket);
		if (shaking === undefined) return;
		shaking.timer.cancel();
		this.#shaking.delete(socket);
		this.#shakingPerGroup.remove(shaking.group);
		this.#drain();
	}

	#drain(): void {
		if (this.#timer !== undefined || this.#closed) return;
		const { handshakesAtOnceMax, handshakesAtOncePerGroupMax, firstStreamMs } = this.#limits;
		const mayGo = (group: string) => this.#shakingPerGroup.of(group) < handshakesAtOncePerGroupMax;
		while (this.#shaking.size < handshakesAtOnceMax) {
			const next = this.#waiting.next(mayGo);
			if (next === undefined) return;
			const [origin, socket] = next;
			const waitMs = this.#pace.take();
			if (waitMs > 0) {
				this.#timer = this.#clock.setTimer(() => {
					this.#timer = undefined;
					this.#drain();
				}, waitMs);
				return;
			}
			this.#waiting.take(origin, socket);
			this.#shakingPerGroup.add(origin.group);
			const timer = this.#clock.setTimer(() => socket.destroy(), firstStreamMs);
			this.#shaking.set(socket, { group: origin.group, timer });
			this.#inject(socket);
		}
	}
}

class Counts {
	readonly #counts = new Map<string, number>();

	of(key: string): number {
		return this.#counts.get(key) ?? 0;
	}

	add(key: string): void {
		this.#counts.set(key, this.of(key) + 1);
	}

	remove(key: string): void {
		const left = this.of(key) - 1;
		if (left > 0) this.#counts.set(key, left);
		else this.#counts.delete(key);
	}
}
