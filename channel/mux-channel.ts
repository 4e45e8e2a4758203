import { FRAME_PAYLOAD_BYTES_MAX, protocolError } from './frame.ts';
import { MUX_FRAME, type MuxLink } from './mux-link.ts';

/** Bytes on the way in one direction of one channel: at 50 ms round trip still 5 MB/s for each. */
export const MUX_WINDOW_BYTES = 256 * 1024;
/** One write of the shared pipe: the others wait for at most this. */
const CHUNK_BYTES_MAX = Math.min(32 * 1024, FRAME_PAYLOAD_BYTES_MAX);

export type MuxEvent =
	| { readonly kind: 'data'; readonly bytes: Uint8Array }
	/** The other side sends no more; it may still read. */
	| { readonly kind: 'end' }
	/** Nothing more in either direction. The last event. */
	| { readonly kind: 'reset' };

/** One connection inside a mux. Events that come before `listen` wait. */
export class MuxChannel {
	readonly id: number;
	readonly #link: MuxLink;
	#sendCredit = MUX_WINDOW_BYTES;
	/** What the other side may still send. */
	#receiveCredit = MUX_WINDOW_BYTES;
	/** Consumed and not yet granted again: granted in halves of a window, not byte by byte. */
	#consumed = 0;
	#wake: (() => void) | undefined;
	#state: 'open' | 'reset' = 'open';
	#sentEnd = false;
	#gotEnd = false;
	#events: MuxEvent[] = [];
	#listener: ((event: MuxEvent) => void) | undefined;

	constructor(id: number, link: MuxLink) {
		this.id = id;
		this.#link = link;
	}

	listen(listener: (event: MuxEvent) => void): void {
		this.#listener = listener;
		const waiting = this.#events;
		this.#events = [];
		for (const event of waiting) listener(event);
	}

	/** Resolves when all of it was written to the pipe; returns early, without an error, when the channel was reset. */
	async send(bytes: Uint8Array): Promise<void> {
		for (let from = 0; from < bytes.length && this.#state === 'open'; ) {
			const length = Math.min(bytes.length - from, this.#sendCredit, CHUNK_BYTES_MAX);
			if (length === 0) {
				await new Promise<void>((resolve) => {
					this.#wake = resolve;
				});
				continue;
			}
			this.#sendCredit -= length;
			await this.#link.send(MUX_FRAME.data, this.id, bytes.subarray(from, from + length));
			from += length;
		}
	}

	/** Half-close. Idempotent. */
	async end(): Promise<void> {
		if (this.#sentEnd || this.#state === 'reset') return;
		this.#sentEnd = true;
		await this.#link.send(MUX_FRAME.end, this.id, new Uint8Array());
		this.#closeIfOver();
	}

	/** Idempotent. */
	reset(): void {
		if (this.#state === 'reset' || (this.#sentEnd && this.#gotEnd)) return;
		this.#state = 'reset';
		this.#wake?.();
		this.#link.closed(this.id);
		this.#link.send(MUX_FRAME.reset, this.id, new Uint8Array()).catch(() => {});
	}

	/** So many bytes of `data` were passed on: the other side may send as many more. */
	consumed(bytes: number): void {
		this.#consumed += bytes;
		if (this.#state === 'reset' || this.#gotEnd || this.#consumed < MUX_WINDOW_BYTES / 2) return;
		const credit = Buffer.alloc(4);
		credit.writeUInt32BE(this.#consumed);
		this.#receiveCredit += this.#consumed;
		this.#consumed = 0;
		this.#link.send(MUX_FRAME.credit, this.id, credit).catch(() => {});
	}

	/** A frame of this channel, from the mux. Throws CHANNEL_PROTOCOL for a sender that keeps to no window. */
	taken(frame: MuxEvent | { readonly kind: 'credit'; readonly bytes: number }): void {
		if (frame.kind === 'credit') {
			this.#sendCredit += frame.bytes;
			if (this.#sendCredit > MUX_WINDOW_BYTES) throw protocolError('more credit was granted than a window has');
			this.#wake?.();
			return;
		}
		if (this.#state === 'reset') return;
		if (frame.kind === 'data') {
			this.#receiveCredit -= frame.bytes.length;
			if (this.#receiveCredit < 0 || this.#gotEnd) throw protocolError('data came beyond the window, or after its end');
		}
		if (frame.kind === 'end') this.#gotEnd = true;
		if (frame.kind === 'reset') this.#state = 'reset';
		if (frame.kind !== 'data') this.#wake?.();
		if (this.#listener === undefined) this.#events.push(frame);
		else this.#listener(frame);
		this.#closeIfOver();
	}

	#closeIfOver(): void {
		if (this.#state === 'reset' || (this.#sentEnd && this.#gotEnd)) this.#link.closed(this.id);
	}
}
