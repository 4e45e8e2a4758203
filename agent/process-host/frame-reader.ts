import { HEAD_BYTES, ProtocolError, type RawFrame } from './framing.ts';

/** Of the buffer that is read into: several frames of bulk. */
export const SLAB_BYTES = 512 << 10;
/** Room for the next read: what a unix socket holds at most, by the kernel's default. */
const ROOM_BYTES = 208 << 10;
/** A frame that is kept longer than its slab is in use holds all of it: small ones are copied, so that many hold little. */
const HELD_BYTES_MIN = 16 << 10;
/** Over what has come of a frame: nobody is given memory for a promise. */
const GROWTH = 4;

/**
 * Frames of a socket that is read into a buffer of ours (`onread` of node:net): each read goes behind the one before, so a
 * frame is in one piece however many reads it took, and large ones are views of the buffer. A socket that is read by
 * events has a fresh buffer for each 64 KiB, of which Node copies what was read, and each frame of that size is torn.
 */
export class FrameReader {
	readonly #frameBytesMax: number;
	#slab = Buffer.alloc(0);
	/** Of the first frame that isn't whole. */
	#start = 0;
	/** Of what was read. */
	#end = 0;

	constructor(frameBytesMax: number) {
		this.#frameBytesMax = frameBytesMax;
	}

	/** Where the next read goes. */
	room(): Buffer {
		const pendingBytes = this.#end - this.#start;
		if (this.#slab.length - this.#end < ROOM_BYTES) {
			const next = Buffer.allocUnsafeSlow(Math.max(SLAB_BYTES, GROWTH * pendingBytes));
			this.#slab.copy(next, 0, this.#start, this.#end);
			this.#slab = next;
			this.#start = 0;
			this.#end = pendingBytes;
		}
		return this.#slab.subarray(this.#end);
	}

	/** The frames that are whole after a read of so many bytes into `room`. Throws `ProtocolError`, after which it is spent. */
	*took(bytes: number): Generator<RawFrame, void, void> {
		this.#end += bytes;
		while (this.#end - this.#start >= HEAD_BYTES) {
			const length = this.#slab.readUInt32BE(this.#start);
			if (length < 1 || length > this.#frameBytesMax)
				throw new ProtocolError(`a frame of ${length} bytes is out of bounds`);
			const frameEnd = this.#start + HEAD_BYTES - 1 + length;
			if (frameEnd > this.#end) return;
			const kind = this.#slab.readUInt8(this.#start + HEAD_BYTES - 1);
			const payload = this.#slab.subarray(this.#start + HEAD_BYTES, frameEnd);
			this.#start = frameEnd;
			yield { kind, payload: payload.length < HELD_BYTES_MIN ? Buffer.from(payload) : payload };
		}
	}
}
