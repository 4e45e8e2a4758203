/**
 * What the Connect and gRPC protocols put around each message of a stream: `flags u8 | length u32be | message`. Cut from
 * chunks as they come: a message that is whole in its chunk isn't copied, any other is copied once, into a buffer that
 * grows with what has come. So neither a promise nor a sender of single bytes costs more memory than what was sent.
 */
export interface Envelope {
	readonly flags: number;
	/** May be a view of a chunk. */
	readonly data: Buffer;
}

export const ENVELOPE_HEAD_BYTES = 5;
/** Of the Connect protocol: the last envelope of a stream, which says how it ended. */
export const END_FLAG = 2;
export const COMPRESSED_FLAG = 1;

/** The head and `more` bytes of room behind it, for what is written before the `dataBytes` that follow uncopied. */
export function envelopeHead(flags: number, dataBytes: number, more = 0): Buffer {
	const head = Buffer.allocUnsafe(ENVELOPE_HEAD_BYTES + more);
	head.writeUInt8(flags, 0);
	head.writeUInt32BE(more + dataBytes, 1);
	return head;
}

const FIRST_BYTES = 1024;
/** Over what has come: one buffer for a message of a few HTTP/2 frames, and little for whoever only promises. */
const GROWTH = 4;

export class EnvelopeDecoder {
	readonly #tooLarge: (bytes: number) => Error;
	readonly #bytesMax: number;
	/** Of the envelope that is being gathered, head included. */
	#buffer = Buffer.alloc(0);
	#bytes = 0;

	/** `tooLarge`: what is thrown for a message above `bytesMax`, before anything is kept of it. */
	constructor(bytesMax: number, tooLarge: (bytes: number) => Error) {
		this.#bytesMax = bytesMax;
		this.#tooLarge = tooLarge;
	}

	/** Whole envelopes, in order. */
	*push(chunk: Buffer): Generator<Envelope, void, void> {
		for (let rest = chunk; rest.length > 0; ) {
			const bytes = this.#bytes === 0 ? this.#needed(rest) : undefined;
			if (bytes !== undefined && bytes <= rest.length) {
				yield envelopeOf(rest.subarray(0, bytes));
				rest = rest.subarray(bytes);
				continue;
			}
			rest = this.#gather(rest);
			if (this.#needed(this.#buffer.subarray(0, this.#bytes)) !== this.#bytes) continue;
			yield envelopeOf(this.#buffer.subarray(0, this.#bytes));
			this.#buffer = Buffer.alloc(0);
			this.#bytes = 0;
		}
	}

	/** Bytes of an envelope that is not whole. */
	get pendingBytes(): number {
		return this.#bytes;
	}

	/** Of the envelope that begins here, head included; undefined until its head is whole. */
	#needed(start: Buffer): number | undefined {
		if (start.length < ENVELOPE_HEAD_BYTES) return undefined;
		const length = start.readUInt32BE(1);
		if (length > this.#bytesMax) throw this.#tooLarge(length);
		return ENVELOPE_HEAD_BYTES + length;
	}

	/** Takes what belongs to this envelope (or to its head), and gives back the rest. */
	#gather(chunk: Buffer): Buffer {
		const needed = this.#needed(this.#buffer.subarray(0, this.#bytes)) ?? ENVELOPE_HEAD_BYTES;
		const bytes = Math.min(needed - this.#bytes, chunk.length);
		if (this.#bytes + bytes > this.#buffer.length) {
			const came = this.#bytes + bytes;
			const larger = Buffer.allocUnsafe(Math.max(came, Math.min(needed, came * GROWTH), FIRST_BYTES));
			this.#buffer.copy(larger, 0, 0, this.#bytes);
			this.#buffer = larger;
		}
		chunk.copy(this.#buffer, this.#bytes, 0, bytes);
		this.#bytes += bytes;
		return chunk.subarray(bytes);
	}
}

function envelopeOf(bytes: Buffer): Envelope {
	return { flags: bytes.readUInt8(0), data: bytes.subarray(ENVELOPE_HEAD_BYTES) };
}
