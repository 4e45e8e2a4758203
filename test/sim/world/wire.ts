import type { StreamEnd } from '../../../agent/control/link-transport.ts';
import type { StreamStatus } from '../../../control-plane/gateway/stream.ts';
import type { SeededRng } from './random.ts';
import type { Scheduler, SimProcess } from './scheduler.ts';

/**
 * One TCP connection, and one HTTP/2 stream on it, in memory: bytes in each direction in order, late, and lost together
 * with everything behind them once the connection breaks. It may break so that both ends hear of it (a reset), or so
 * that neither does (half-open): then keepalive finds out, or only whoever misses an answer.
 */
export interface WirePath {
	/** One way, now. */
	latencyMs(): number;
	/** Unread bytes at which a sender is told to wait. */
	readonly windowBytes: number;
	/** What keepalive needs to find a dead connection; infinite where a middlebox answers for the dead. */
	readonly keepaliveMs: number;
}

export class Wire {
	readonly scheduler: Scheduler;
	readonly rng: SeededRng;
	readonly path: WirePath;
	readonly name: string;
	readonly streams = new Set<WireStream>();
	/** Nothing passes any more, and nobody was told. */
	#lostUp = false;
	#lostDown = false;

	constructor(scheduler: Scheduler, rng: SeededRng, path: WirePath, name: string) {
		this.scheduler = scheduler;
		this.rng = rng;
		this.path = path;
		this.name = name;
	}

	passes(direction: 'up' | 'down'): boolean {
		return direction === 'up' ? !this.#lostUp : !this.#lostDown;
	}

	/** Both ends hear of it, each in its own time; what was on the way is lost. */
	reset(message: string): void {
		this.#lostUp = true;
		this.#lostDown = true;
		for (const stream of [...this.streams]) {
			this.scheduler.after(this.path.latencyMs(), () => stream.closeClient(unavailable(message)));
			this.scheduler.after(this.path.latencyMs(), () => stream.closeServer());
		}
	}

	/** Half-open. */
	lose(direction: 'up' | 'down' | 'both'): void {
		if (direction !== 'down') this.#lostUp = true;
		if (direction !== 'up') this.#lostDown = true;
		if (this.path.keepaliveMs === Number.POSITIVE_INFINITY) return;
		for (const stream of [...this.streams]) {
			const late = () => this.path.keepaliveMs * (0.7 + 0.3 * this.rng.float());
			this.scheduler.after(late(), () => stream.closeClient(unavailable('keepalive: no answer')));
			this.scheduler.after(late(), () => stream.closeServer());
		}
	}
}

export function unavailable(message: string): StreamEnd {
	return { code: 'UNAVAILABLE', reason: '', message, retryAfterMs: 0 };
}

type Item =
	| { readonly kind: 'frame'; readonly bytes: Uint8Array }
	| { readonly kind: 'half-close' }
	| { readonly kind: 'reset' }
	| { readonly kind: 'status'; readonly end: StreamEnd };

export interface StreamSide {
	readonly process: SimProcess;
	onFrame(bytes: Uint8Array): void;
	onWritable(): void;
}

export interface ClientSide extends StreamSide {
	onClosed(end: StreamEnd): void;
}

export interface ServerSide extends StreamSide {
	onEnd(): void;
	onClosed(): void;
}

/** Bytes on their way to one side. */
interface Lane {
	lastDueMs: number;
	unreadBytes: number;
	isSenderWaiting: boolean;
	paused: boolean;
	held: Item[];
}

const lane = (): Lane => ({ lastDueMs: 0, unreadBytes: 0, isSenderWaiting: false, paused: false, held: [] });

export class WireStream {
	readonly #wire: Wire;
	readonly #client: ClientSide;
	#server: ServerSide | undefined;
	readonly #up = lane();
	readonly #down = lane();
	#clientOver = false;
	#serverOver = false;
	#clientEnded = false;
	#serverEnded = false;

	/** `accept` makes the server side when the call has arrived there; undefined: nobody listens. */
	constructor(wire: Wire, client: ClientSide, accept: (stream: WireStream) => ServerSide | undefined) {
		this.#wire = wire;
		this.#client = client;
		wire.streams.add(this);
		const { path, scheduler } = wire;
		// Handshake and headers.
		this.#up.lastDueMs = scheduler.elapsedMs + path.latencyMs() * 3;
		scheduler.at(this.#up.lastDueMs, () => {
			if (this.#clientOver || !wire.passes('up')) return;
			this.#server = accept(this);
			if (this.#server === undefined) {
				this.#serverOver = true;
				scheduler.after(path.latencyMs(), () => this.closeClient(unavailable('connection refused')));
			}
		});
	}

	sendUp(bytes: Uint8Array): boolean {
		if (this.#clientOver || this.#clientEnded) return false;
		this.#put('up', { kind: 'frame', bytes });
		return this.#takesMore(this.#up);
	}

	sendDown(bytes: Uint8Array): boolean {
		if (this.#serverOver || this.#serverEnded) return false;
		this.#put('down', { kind: 'frame', bytes });
		return this.#takesMore(this.#down);
	}

	endUp(): void {
		if (this.#clientOver || this.#clientEnded) return;
		this.#clientEnded = true;
		this.#put('up', { kind: 'half-close' });
	}

	endDown(status: StreamStatus): void {
		if (this.#serverOver || this.#serverEnded) return;
		this.#serverEnded = true;
		const { code, reason, message, retryAfterMs } = status;
		const retryMs = retryAfterMs === undefined ? 0 : Math.max(1, Math.ceil(retryAfterMs / 1000)) * 1000;
		this.#put('down', { kind: 'status', end: { code, reason, message, retryAfterMs: retryMs } });
	}

	/** The client gives up. */
	cancel(): void {
		if (this.#clientOver) return;
		this.#put('up', { kind: 'reset' });
		this.#client.process.after(0, () =>
			this.closeClient({ code: 'CANCELLED', reason: '', message: 'cancelled', retryAfterMs: 0 }),
		);
	}

	pauseUp(): void {
		this.#up.paused = true;
	}

	resumeUp(): void {
		if (!this.#up.paused) return;
		this.#up.paused = false;
		const held = this.#up.held;
		this.#up.held = [];
		// A process sees its own resume as an event, never as calls from inside of it.
		for (const item of held) this.#put('up', item, true);
	}

	closeClient(end: StreamEnd): void {
		if (this.#clientOver) return;
		this.#clientOver = true;
		this.#forgetIfOver();
		if (this.#client.process.alive) this.#client.onClosed(end);
	}

	closeServer(): void {
		if (this.#serverOver) return;
		this.#serverOver = true;
		this.#forgetIfOver();
		if (this.#server?.process.alive) this.#server.onClosed();
	}

	#forgetIfOver(): void {
		if (this.#clientOver && this.#serverOver) this.#wire.streams.delete(this);
	}

	#takesMore(into: Lane): boolean {
		if (into.unreadBytes <= this.#wire.path.windowBytes) return true;
		into.isSenderWaiting = true;
		return false;
	}

	#put(direction: 'up' | 'down', item: Item, again = false): void {
		const into = direction === 'up' ? this.#up : this.#down;
		if (item.kind === 'frame' && !again) into.unreadBytes += item.bytes.length;
		const { scheduler, path } = this.#wire;
		into.lastDueMs = Math.max(into.lastDueMs, scheduler.elapsedMs + (again ? 0 : path.latencyMs()));
		scheduler.at(into.lastDueMs, () => this.#arrive(direction, item));
	}

	#arrive(direction: 'up' | 'down', item: Item): void {
		if (!this.#wire.passes(direction)) return;
		if (direction === 'down') this.#arriveAtClient(item);
		else this.#arriveAtServer(item);
	}

	#arriveAtClient(item: Item): void {
		if (this.#clientOver || !this.#client.process.alive) return;
		if (item.kind === 'frame') {
			this.#read(this.#down, item.bytes, this.#server);
			this.#client.onFrame(item.bytes);
		} else if (item.kind === 'status') {
			this.closeClient(item.end);
			this.#wire.scheduler.after(this.#wire.path.latencyMs(), () => {
				if (this.#wire.passes('up')) this.closeServer();
			});
		}
	}

	#arriveAtServer(item: Item): void {
		const server = this.#server;
		if (this.#serverOver || server?.process.alive !== true) return;
		if (this.#up.paused && item.kind !== 'reset') {
			this.#up.held.push(item);
			return;
		}
		if (item.kind === 'reset') this.closeServer();
		else if (item.kind === 'half-close') server.onEnd();
		else if (item.kind === 'frame') {
			this.#read(this.#up, item.bytes, this.#client);
			server.onFrame(item.bytes);
		}
	}

	#read(from: Lane, bytes: Uint8Array, sender: StreamSide | undefined): void {
		from.unreadBytes -= bytes.length;
		if (!from.isSenderWaiting || from.unreadBytes > this.#wire.path.windowBytes / 2) return;
		from.isSenderWaiting = false;
		this.#wire.scheduler.after(this.#wire.path.latencyMs(), () => {
			const isOver = sender === this.#client ? this.#clientOver : this.#serverOver;
			if (!isOver && sender?.process.alive) sender.onWritable();
		});
	}
}
