import { assert } from '../../kit/assert.ts';

/** What a program wrote on one stream and nobody has acknowledged, by offset. */
export class OutputBuffer {
	#chunks: Buffer[] = [];
	#first = 0;
	#next = 0;

	/** Offset of the first byte that is still here. */
	get first(): number {
		return this.#first;
	}

	/** Offset after the last. */
	get next(): number {
		return this.#next;
	}

	get bytes(): number {
		return this.#next - this.#first;
	}

	append(bytes: Buffer): void {
		const last = this.#chunks.at(-1);
		// Reads into one buffer (read-slab.ts): together they are one piece, which needs no copy.
		if (last !== undefined && last.buffer === bytes.buffer && last.byteOffset + last.length === bytes.byteOffset)
			this.#chunks[this.#chunks.length - 1] = Buffer.from(last.buffer, last.byteOffset, last.length + bytes.length);
		else this.#chunks.push(bytes);
		this.#next += bytes.length;
	}

	/** Forgets all below `offset`; one that is below what is here, or above what there was, changes nothing beyond. */
	forget(offset: number): void {
		const until = Math.min(offset, this.#next);
		let count = 0;
		for (const chunk of this.#chunks) {
			if (this.#first + chunk.length > until) break;
			this.#first += chunk.length;
			count += 1;
		}
		if (count > 0) this.#chunks = this.#chunks.slice(count);
		const [head] = this.#chunks;
		if (head !== undefined && until > this.#first) {
			this.#chunks[0] = head.subarray(until - this.#first);
			this.#first = until;
		}
	}

	/** At most `bytesMax` from `offset`, in one piece; empty at the end. */
	read(offset: number, bytesMax: number): Buffer {
		assert(offset >= this.#first && offset <= this.#next, `offset ${offset} is not here`);
		const pieces: Buffer[] = [];
		let at = this.#first;
		let left = bytesMax;
		for (const chunk of this.#chunks) {
			const end = at + chunk.length;
			if (end > offset) {
				const from = Math.max(0, offset - at);
				const piece = chunk.subarray(from, Math.min(chunk.length, from + left));
				pieces.push(piece);
				left -= piece.length;
				if (left === 0) break;
			}
			at = end;
		}
		const [only] = pieces;
		return pieces.length === 1 && only !== undefined ? only : Buffer.concat(pieces);
	}
}
