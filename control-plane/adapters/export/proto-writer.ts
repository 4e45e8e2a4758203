/** The wire format of protocol buffers, as far as remote write needs it: bytes into one buffer that grows. */
export class ProtoWriter {
	#bytes = Buffer.allocUnsafe(256 * 1024);
	#at = 0;

	get length(): number {
		return this.#at;
	}

	/** What was written, as a copy; the writer is empty afterwards. */
	take(): Buffer {
		const taken = Buffer.from(this.#bytes.subarray(0, this.#at));
		this.#at = 0;
		return taken;
	}

	varint(value: number): void {
		this.#reserve(10);
		let rest = value;
		while (rest >= 0x80) {
			this.#bytes[this.#at++] = (rest % 0x80) | 0x80;
			rest = Math.floor(rest / 0x80);
		}
		this.#bytes[this.#at++] = rest;
	}

	raw(bytes: Uint8Array): void {
		this.#reserve(bytes.length);
		this.#bytes.set(bytes, this.#at);
		this.#at += bytes.length;
	}

	#reserve(count: number): void {
		if (this.#at + count <= this.#bytes.length) return;
		const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#at + count));
		this.#bytes.copy(larger, 0, 0, this.#at);
		this.#bytes = larger;
	}
}

/** Bytes that a varint of this value has. */
export function varintBytes(value: number): number {
	let bytes = 1;
	for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes += 1;
	return bytes;
}

/** One length-delimited field: tag, length, content. */
export function delimited(tag: number, content: Uint8Array): Buffer {
	const head: number[] = [tag];
	let rest = content.length;
	for (; rest >= 0x80; rest >>>= 7) head.push((rest & 0x7f) | 0x80);
	head.push(rest);
	return Buffer.concat([Buffer.from(head), content]);
}
