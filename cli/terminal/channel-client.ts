import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { Client } from '@connectrpc/connect';
import { sleep, type Timer } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import { Backoff } from '../../kit/retry.ts';
import {
	type ChannelEnd,
	type Screen,
	Stream,
	type WindowSize,
} from '../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import {
	type Attached,
	type AttachMode,
	type AttachTerminalRequest,
	AttachTerminalRequestSchema,
	type AttachTerminalResponse,
	type TerminalService,
	type Viewers,
} from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { takenBy } from '../direct-streams.ts';
import type { Io } from '../io.ts';

/**
 * One person's end of a channel: attaches, attaches again when the connection breaks, and keeps what it sent until the
 * node has taken it. Without a terminal nothing is lost or repeated over any number of connections, in both directions;
 * with one, the screen comes anew, and keys that were on their way are not typed a second time.
 */
export interface ChannelEvents {
	/** Resolves when the bytes are out: only then is more asked for. Undefined: they are. */
	output(stream: 'stdout' | 'stderr', data: Uint8Array): Promise<void> | undefined;
	/** Nothing follows on this stream. */
	outputEnd?(stream: 'stdout' | 'stderr'): void;
	screen?(screen: Screen): Promise<void>;
	attached?(attached: Attached): void;
	viewers?(viewers: Viewers): void;
	/** Another viewer made it this large. */
	size?(size: WindowSize): void;
	/** Something that whoever is here must know. */
	notice?(message: string): void;
	/** Whether the node can be reached. */
	link?(isConnected: boolean): void;
	/** The connection to the control plane broke and is tried again. */
	outage?(error: GpuaasError): void;
}

export interface ChannelOptions {
	readonly terminalId: string;
	readonly mode: AttachMode;
	readonly tty: boolean;
	readonly size?: () => { readonly columns: number; readonly rows: number };
}

export type ChannelResult =
	| { readonly kind: 'ended'; readonly end: ChannelEnd }
	/** We left; it goes on. */
	| { readonly kind: 'detached' };

/**
 * At so many unacknowledged bytes the node holds a terminal's program back, until all but 5,000 are acknowledged: so that
 * is when it is told. What comes before that waits for nobody, and is told together.
 */
const TTY_WINDOW_BYTES = 100_000;
const TTY_ACK_BYTES = 4096;
const TTY_ACK_DELAY_MS = 10;
/** Without a terminal, a small part of what may be on its way: each one costs every hop a message. */
const PIPE_ACK_BYTES = 256 * 1024;
const TTY_INPUT_BYTES_MAX = 64 * 1024;
const PIPE_INPUT_BYTES_MAX = 2 * 1024 * 1024;
const FRAME_BYTES_MAX = 64 * 1024;
/** How long a control plane that went away may stay away. */
const OUTAGE_MAX_MS = 600_000;

type Outgoing = NonNullable<MessageInitShape<typeof AttachTerminalRequestSchema>['message']>;

interface InputChunk {
	readonly offset: number;
	readonly data: Uint8Array<ArrayBuffer>;
	readonly end: boolean;
}

export class ChannelClient {
	readonly #io: Pick<Io, 'clock' | 'rng'>;
	readonly #client: Client<typeof TerminalService>;
	readonly #options: ChannelOptions;
	readonly #events: ChannelEvents;
	#outgoing: Outgoing[] = [];
	#wake: () => void = () => {};
	/** Not acknowledged. */
	#input: InputChunk[] = [];
	#inputNext = 0;
	#inputAcked = 0;
	#isInputOver = false;
	#inputWaiters: (() => void)[] = [];
	/** Of the newest write that waits. */
	#writing: Promise<void> | undefined;
	/** Why nothing is taken any more. */
	#over: unknown;
	readonly #received = { stdout: 0, stderr: 0 };
	readonly #shown = { stdout: 0, stderr: 0 };
	readonly #acked = { stdout: 0, stderr: 0 };
	/** With a terminal. */
	#ackTimer: Timer | undefined;
	#isAttached = false;
	#hasAttached = false;
	#isLeaving = false;
	/** Asked for while nobody was attached. */
	#signals: string[] = [];
	#end: ChannelEnd | undefined;

	constructor(
		io: Pick<Io, 'clock' | 'rng'>,
		client: Client<typeof TerminalService>,
		options: ChannelOptions,
		events: ChannelEvents,
	) {
		this.#io = io;
		this.#client = client;
		this.#options = options;
		this.#events = events;
	}

	/** Until the terminal ends, `detach` is called or `signal` aborts. Rejects with why it may not be attached to. */
	async run(signal: AbortSignal): Promise<ChannelResult> {
		try {
			return await this.#run(signal);
		} catch (error) {
			this.#close(error);
			throw error;
		} finally {
			this.#close(detached());
		}
	}

	/** Whoever waits for room is told too. */
	#close(why: unknown): void {
		this.#over ??= why;
		this.#release();
	}

	async #run(signal: AbortSignal): Promise<ChannelResult> {
		const backoff = new Backoff({ baseMs: 100, maxMs: 5000, floorMs: 20 }, this.#io.rng);
		let outageSinceMs: number | undefined;
		while (!signal.aborted && !this.#isLeaving) {
			try {
				await this.#attachOnce(signal, () => {
					outageSinceMs = undefined;
					backoff.reset();
				});
				if (this.#end !== undefined) return { kind: 'ended', end: this.#end };
			} catch (thrown) {
				if (this.#end !== undefined) return { kind: 'ended', end: this.#end };
				if (signal.aborted || this.#isLeaving) break;
				const error = GpuaasError.from(thrown);
				// Refused, for good: nothing is tried again.
				if (!OUTAGES.has(error.code) || !this.#hasAttached) throw thrown;
				const nowMs = this.#io.clock.monotonic();
				if (outageSinceMs === undefined) this.#events.outage?.(error);
				outageSinceMs ??= nowMs;
				if (nowMs - outageSinceMs > OUTAGE_MAX_MS) throw thrown;
			} finally {
				this.#isAttached = false;
			}
			await sleep(this.#io.clock, backoff.nextMs(), signal);
		}
		return { kind: 'detached' };
	}

	/**
	 * Waits while too much is on its way, and behind who waits already. Throws once nothing is taken any more: whoever
	 * reads a file for us must not go on.
	 */
	async write(data: Uint8Array, end = false): Promise<void> {
		const before = this.#writing;
		const { promise, resolve } = Promise.withResolvers<void>();
		this.#writing = promise;
		try {
			if (before !== undefined) await before;
			if (!this.#isInputOver) await this.#take(data, end);
		} finally {
			if (this.#writing === promise) this.#writing = undefined;
			resolve();
		}
	}

	/** Somebody waits for room: what is written now does too. */
	get isFull(): boolean {
		return this.#writing !== undefined;
	}

	async #take(data: Uint8Array, end: boolean): Promise<void> {
		const bytesMax = this.#options.tty ? TTY_INPUT_BYTES_MAX : PIPE_INPUT_BYTES_MAX;
		for (let at = 0; at < data.length || (end && at === 0); at += FRAME_BYTES_MAX) {
			const piece = data.subarray(at, at + FRAME_BYTES_MAX) as Uint8Array<ArrayBuffer>;
			while (!this.#hasRoom(piece.length, bytesMax) && this.#over === undefined)
				await new Promise<void>((resolve) => this.#inputWaiters.push(resolve));
			if (this.#over !== undefined) throw this.#over;
			const chunk = { offset: this.#inputNext, data: piece, end: end && at + FRAME_BYTES_MAX >= data.length };
			this.#input.push(chunk);
			this.#inputNext += piece.length;
			this.#isInputOver ||= chunk.end;
			if (this.#isAttached) this.#sendInput(chunk);
		}
	}

	/** With what is on its way; a piece that no window has room for goes alone. */
	#hasRoom(pieceBytes: number, bytesMax: number): boolean {
		const sentBytes = this.#inputNext - this.#inputAcked;
		return sentBytes === 0 || sentBytes + pieceBytes <= bytesMax;
	}

	resize(size: { readonly columns: number; readonly rows: number }): void {
		if (this.#isAttached) this.#send({ case: 'resize', value: size });
	}

	/** Also one that was asked for before the program could be reached. */
	signal(name: string): void {
		if (this.#isAttached) this.#send({ case: 'signal', value: { name } });
		else this.#signals.push(name);
	}

	detach(): void {
		this.#isLeaving = true;
		this.#send({ case: 'detach', value: {} });
	}

	async #attachOnce(signal: AbortSignal, onAttached: () => void): Promise<void> {
		const closed = new AbortController();
		const both = AbortSignal.any([signal, closed.signal]);
		this.#outgoing = [];
		let fault: { readonly error: unknown } | undefined;
		const fail = (error: unknown) => {
			fault ??= { error };
			closed.abort();
		};
		const take = ({ message }: AttachTerminalResponse): Promise<void> | undefined => {
			if (closed.signal.aborted) return undefined;
			try {
				if (message.case === 'attached') onAttached();
				const taking = this.#handle(message);
				if (message.case === 'end') closed.abort();
				return taking?.catch(fail);
			} catch (error) {
				fail(error);
				return undefined;
			}
		};
		try {
			const options = { signal: both, contextValues: takenBy(take) };
			// Of a transport that doesn't give them to `take`.
			for await (const message of this.#client.attachTerminal(this.#requests(both), options)) await take(message);
		} catch (error) {
			fault ??= { error };
		} finally {
			closed.abort();
			this.#cancelAck();
			this.#wake();
		}
		if (fault !== undefined && this.#end === undefined) throw fault.error;
	}

	async *#requests(signal: AbortSignal): AsyncGenerator<AttachTerminalRequest> {
		const { terminalId, mode, size } = this.#options;
		const attach = {
			mode,
			...(size === undefined ? {} : { size: size() }),
			resume: this.#hasAttached,
			stdoutOffset: BigInt(this.#received.stdout),
			stderrOffset: BigInt(this.#received.stderr),
			acknowledges: true,
		};
		yield create(AttachTerminalRequestSchema, { terminalId, message: { case: 'attach', value: attach } });
		while (!signal.aborted) {
			const messages = this.#outgoing;
			this.#outgoing = [];
			for (const message of messages) yield create(AttachTerminalRequestSchema, { message });
			if (this.#outgoing.length > 0) continue;
			if (this.#isLeaving) return;
			await new Promise<void>((resolve) => {
				this.#wake = resolve;
			});
		}
	}

	/** The promise, where there is one, resolves when the next may come. */
	#handle(message: AttachTerminalResponse['message']): Promise<void> | undefined {
		switch (message.case) {
			case 'attached':
				this.#goOn(message.value);
				return undefined;
			case 'output':
				return this.#output(message.value.stream, Number(message.value.offset), message.value.data, message.value.end);
			case 'screen':
				this.#received.stdout = Number(message.value.offset);
				this.#shown.stdout = this.#received.stdout;
				this.#acked.stdout = this.#received.stdout;
				return this.#events.screen?.(message.value);
			case 'ack':
				this.#inputTaken(Number(message.value.offset));
				return undefined;
			case 'end':
				this.#end = message.value;
				this.#close(ended(message.value));
				return undefined;
			case 'viewers':
				this.#events.viewers?.(message.value);
				return undefined;
			case 'size':
				this.#events.size?.(message.value);
				return undefined;
			case 'notice':
				this.#events.notice?.(message.value.message);
				return undefined;
			case 'link':
				this.#events.link?.(message.value.connected);
				return undefined;
			default:
				return undefined;
		}
	}

	#goOn(attached: Attached): void {
		const offset = Number(attached.stdinOffset);
		if (this.#options.tty && this.#hasAttached) {
			// What was on its way may have arrived: typed once more it could do harm.
			this.#input = [];
		}
		if (this.#options.tty || !this.#hasAttached) this.#renumber(offset);
		else this.#inputTaken(offset);
		this.#hasAttached = true;
		this.#isAttached = true;
		for (const chunk of this.#input) this.#sendInput(chunk);
		for (const name of this.#signals.splice(0)) this.signal(name);
		this.#events.attached?.(attached);
	}

	/** What was typed before it was known where the program's stdin is. */
	#renumber(offset: number): void {
		let at = offset;
		this.#inputAcked = offset;
		this.#input = this.#input.map((chunk) => {
			const moved = { ...chunk, offset: at };
			at += chunk.data.length;
			return moved;
		});
		this.#inputNext = at;
		this.#release();
	}

	#output(number: Stream, offset: number, data: Uint8Array, end: boolean): Promise<void> | undefined {
		const stream = number === Stream.STDERR ? 'stderr' : 'stdout';
		const fresh = data.subarray(Math.max(0, this.#received[stream] - offset));
		const until = Math.max(this.#received[stream], offset + data.length);
		this.#received[stream] = until;
		const writing = fresh.length > 0 ? this.#events.output(stream, fresh) : undefined;
		if (writing !== undefined) return writing.then(() => this.#out(stream, until, end));
		this.#out(stream, until, end);
		return undefined;
	}

	/** What was received of it is out, up to there. */
	#out(stream: 'stdout' | 'stderr', until: number, end: boolean): void {
		this.#shown[stream] = until;
		if (end) this.#events.outputEnd?.(stream);
		const unackedBytes = until - this.#acked[stream];
		if (unackedBytes >= (this.#options.tty ? TTY_WINDOW_BYTES : PIPE_ACK_BYTES) || end) this.#ack(stream);
		else if (this.#options.tty && unackedBytes >= TTY_ACK_BYTES)
			this.#ackTimer ??= this.#io.clock.setTimer(() => this.#ack(stream), TTY_ACK_DELAY_MS);
	}

	#ack(stream: 'stdout' | 'stderr'): void {
		this.#cancelAck();
		const shown = this.#shown[stream];
		this.#acked[stream] = shown;
		const number = stream === 'stderr' ? Stream.STDERR : Stream.STDOUT;
		this.#send({ case: 'ack', value: { stream: number, offset: BigInt(shown) } });
	}

	#cancelAck(): void {
		this.#ackTimer?.cancel();
		this.#ackTimer = undefined;
	}

	#inputTaken(offset: number): void {
		this.#inputAcked = Math.max(this.#inputAcked, offset);
		let count = 0;
		for (const chunk of this.#input) {
			if (chunk.end || chunk.offset + chunk.data.length > offset) break;
			count += 1;
		}
		if (count > 0) this.#input = this.#input.slice(count);
		const [first] = this.#input;
		if (first !== undefined && first.offset < offset)
			this.#input[0] = { ...first, offset, data: first.data.subarray(offset - first.offset) };
		this.#release();
	}

	#release(): void {
		const waiters = this.#inputWaiters;
		this.#inputWaiters = [];
		for (const resolve of waiters) resolve();
	}

	#sendInput({ offset, data, end }: InputChunk): void {
		this.#send({ case: 'input', value: { stream: Stream.STDIN, offset: BigInt(offset), data, end } });
	}

	#send(message: Outgoing): void {
		this.#outgoing.push(message);
		this.#wake();
	}
}

const OUTAGES: ReadonlySet<string> = new Set(['UNAVAILABLE', 'RESOURCE_EXHAUSTED', 'CANCELLED', 'ABORTED']);

function ended({ reason, message }: ChannelEnd): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason,
		message: message === '' ? 'the program has ended, and takes nothing any more' : message,
	});
}

function detached(): GpuaasError {
	return new GpuaasError({ code: 'CANCELLED', reason: 'CANCELLED', message: 'the channel was left' });
}
