/**
 * Puts a name before each line of a byte stream, so that the output of several nodes can be read together. A line that
 * is longer than `LINE_BYTES_MAX` is cut there, so that one endless line holds nothing up. An empty prefix copies.
 */
const LINE_BYTES_MAX = 64 * 1024;
const NEWLINE = 0x0a;

export class LinePrefixer {
	readonly #prefix: Buffer;
	readonly #write: (bytes: Uint8Array) => Promise<void>;
	#partial: Buffer = Buffer.alloc(0);

	constructor(prefix: string, write: (bytes: Uint8Array) => Promise<void>) {
		this.#prefix = Buffer.from(prefix === '' ? '' : `${prefix} | `);
		this.#write = write;
	}

	async write(data: Uint8Array): Promise<void> {
		if (this.#prefix.length === 0) return this.#write(data);
		const bytes = Buffer.concat([this.#partial, data]);
		const out: Buffer[] = [];
		let start = 0;
		for (let end = bytes.indexOf(NEWLINE); end !== -1; end = bytes.indexOf(NEWLINE, start)) {
			out.push(this.#prefix, bytes.subarray(start, end + 1));
			start = end + 1;
		}
		this.#partial = bytes.subarray(start);
		if (this.#partial.length > LINE_BYTES_MAX) {
			out.push(this.#prefix, this.#partial, Buffer.from('\n'));
			this.#partial = Buffer.alloc(0);
		}
		if (out.length > 0) await this.#write(Buffer.concat(out));
	}

	/** Ends a last line that had no newline. */
	async end(): Promise<void> {
		if (this.#partial.length === 0) return;
		await this.#write(Buffer.concat([this.#prefix, this.#partial, Buffer.from('\n')]));
		this.#partial = Buffer.alloc(0);
	}
}
