/** Several reads of a pseudo-terminal. Small, because each terminal has one. */
const SLAB_BYTES = 32 << 10;
/** What the kernel gives of a pseudo-terminal at once (N_TTY_BUF_SIZE, less one). */
export const ROOM_BYTES = 4096;

/**
 * A buffer that a terminal is read into piece by piece (`onread` of node:net). A stream that is read by events has 64 KiB
 * allocated for each of these small reads, and what was read is copied out of it.
 */
export class ReadSlab {
	#slab = Buffer.alloc(0);
	#at = 0;

	/** Where the next read goes. */
	room(): Buffer {
		if (this.#slab.length - this.#at < ROOM_BYTES) {
			this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
			this.#at = 0;
		}
		return this.#slab.subarray(this.#at);
	}

	/** Where a read goes that follows one of so many bytes into `room`; undefined: elsewhere. */
	roomBehind(bytes: number): Buffer | undefined {
		const at = this.#at + bytes;
		return this.#slab.length - at < ROOM_BYTES ? undefined : this.#slab.subarray(at);
	}

	/** What a read into `room` brought; nothing is written over it later. */
	took(bytes: number): Buffer {
		const piece = this.#slab.subarray(this.#at, this.#at + bytes);
		this.#at += bytes;
		return piece;
	}
}
