import { encodeFrame, type Frame, FrameDecoder, protocolError } from './frame.ts';
import { MuxChannel } from './mux-channel.ts';
import { MUX_FRAME, type MuxLink } from './mux-link.ts';
import type { BytePipe } from './pipe.ts';
import { decodeRefusal, encodeRefusal, type Refusal, refusalError, refusalOf } from './refusal.ts';

/**
 * Many connections over one pipe. The client opens channels, the other side accepts or refuses each. Flow control is a
 * window of bytes per channel and direction: who reads grants more, so a reader that stands still holds up its own
 * channel and nothing else; the pipe itself is always read. Half-close and reset travel as such. Memory is bounded by
 * channels x window on each side.
 */
export const MUX_CHANNELS_MAX = 256;

export interface MuxOptions {
	readonly pipe: BytePipe;
	/** Channels that may be open at once. Default 256. */
	readonly channelsMax?: number;
	/**
	 * Of the accepting side. Absent: this side opens. `gone` is aborted when the other side gave the channel up: what is under
	 * way for it ends, and the channel counts until then.
	 */
	readonly accept?: (channel: MuxChannel, gone: AbortSignal) => Promise<Accepted | Refusal>;
}

/** `start` is called once the other side was told, or is gone: nothing may be sent on the channel before. */
export interface Accepted {
	readonly start: () => void;
}

export class Mux {
	readonly #options: MuxOptions;
	readonly #channels = new Map<number, MuxChannel>();
	readonly #opening = new Map<number, { resolve(channel: MuxChannel): void; reject(error: unknown): void }>();
	/** Channels that are being accepted. Each keeps its place until that is over, also when it was reset meanwhile. */
	readonly #accepting = new Map<number, AbortController>();
	readonly #link: MuxLink;
	#lastId = 0;
	#broken: unknown;
	#ended = false;

	constructor(options: MuxOptions) {
		this.#options = options;
		this.#link = {
			send: async (type, channel, payload) => {
				if (!this.#ended) await options.pipe.write(encodeFrame(type, channel, payload));
			},
			closed: (id) => {
				const accepting = this.#accepting.get(id);
				if (accepting === undefined) this.#channels.delete(id);
				else accepting.abort();
			},
		};
	}

	get channelCount(): number {
		return this.#channels.size;
	}

	/** Rejects with the other side's reason, or when the pipe ends first. */
	open(): Promise<MuxChannel> {
		if (this.#ended) return Promise.reject(this.#broken ?? ended());
		if (this.#channels.size >= (this.#options.channelsMax ?? MUX_CHANNELS_MAX)) {
			return Promise.reject(refusalError(tooMany(this.#options.channelsMax ?? MUX_CHANNELS_MAX), 'RESOURCE_EXHAUSTED'));
		}
		this.#lastId += 1;
		const id = this.#lastId;
		this.#channels.set(id, new MuxChannel(id, this.#link));
		return new Promise((resolve, reject) => {
			this.#opening.set(id, { resolve, reject });
			this.#link.send(MUX_FRAME.open, id, new Uint8Array()).catch(reject);
		});
	}

	/** Reads until the other side ends. Then every channel is reset. Throws what broke the pipe or the protocol. */
	async run(): Promise<void> {
		const decoder = new FrameDecoder();
		try {
			for await (const chunk of this.#options.pipe.incoming) for (const frame of decoder.push(chunk)) this.#take(frame);
		} catch (error) {
			this.#broken = error;
			throw error;
		} finally {
			this.#ended = true;
			for (const { reject } of this.#opening.values()) reject(this.#broken ?? ended());
			this.#opening.clear();
			for (const channel of [...this.#channels.values()]) channel.taken({ kind: 'reset' });
			this.#accepting.clear();
			this.#channels.clear();
		}
	}

	#take({ type, channel: id, payload }: Frame): void {
		if (type === MUX_FRAME.open) {
			this.#accept(id);
			return;
		}
		const opening = this.#opening.get(id);
		if (opening !== undefined) {
			this.#opened(id, opening, type, payload);
			return;
		}
		// Frames may still be on their way to a channel that was closed here.
		const channel = this.#channels.get(id);
		if (channel === undefined) {
			if (id > this.#lastId) throw protocolError(`a frame came for channel ${id}, which was never opened`);
			return;
		}
		if (type === MUX_FRAME.data) channel.taken({ kind: 'data', bytes: payload });
		else if (type === MUX_FRAME.end) channel.taken({ kind: 'end' });
		else if (type === MUX_FRAME.reset) channel.taken({ kind: 'reset' });
		else if (type === MUX_FRAME.credit && payload.length === 4)
			channel.taken({ kind: 'credit', bytes: Buffer.from(payload).readUInt32BE(0) });
		else throw protocolError(`a frame of type ${type} came at the wrong time`);
	}

	#opened(
		id: number,
		opening: { resolve(channel: MuxChannel): void; reject(error: unknown): void },
		type: number,
		payload: Uint8Array,
	): void {
		const channel = this.#channels.get(id);
		this.#opening.delete(id);
		if (type === MUX_FRAME.opened && channel !== undefined) {
			opening.resolve(channel);
			return;
		}
		this.#channels.delete(id);
		if (type === MUX_FRAME.refused) opening.reject(refusalError(decodeRefusal(payload)));
		else throw protocolError(`a frame of type ${type} answered an open`);
	}

	#accept(id: number): void {
		const { accept, channelsMax = MUX_CHANNELS_MAX } = this.#options;
		if (accept === undefined || id <= this.#lastId) throw protocolError(`channel ${id} can't be opened`);
		this.#lastId = id;
		const refuse = (refusal: Refusal) => this.#link.send(MUX_FRAME.refused, id, encodeRefusal(refusal)).catch(() => {});
		if (this.#channels.size >= channelsMax) {
			void refuse(tooMany(channelsMax));
			return;
		}
		const channel = new MuxChannel(id, this.#link);
		const accepting = new AbortController();
		this.#channels.set(id, channel);
		this.#accepting.set(id, accepting);
		const answered = (answer: Accepted | Refusal) => {
			const isGone = accepting.signal.aborted;
			this.#accepting.delete(id);
			if (isGone || !('start' in answer)) this.#channels.delete(id);
			if ('start' in answer) {
				if (!isGone) this.#link.send(MUX_FRAME.opened, id, new Uint8Array()).catch(() => {});
				answer.start();
			} else if (!isGone) void refuse(answer);
		};
		// One connection that fails in an unexpected way ends alone, and not the process with all the others.
		accept(channel, accepting.signal)
			.catch(refusalOf)
			.then(answered)
			.catch(() => channel.reset());
	}
}

function tooMany(channelsMax: number): Refusal {
	return {
		reason: 'RATE_LIMITED',
		message: `${channelsMax} connections are open through this forward, which is its limit; close some, or start another`,
	};
}

function ended(): Error {
	return refusalError(
		{ reason: 'UNREACHABLE', message: 'the connection to the node ended; start the command again' },
		'UNAVAILABLE',
	);
}
