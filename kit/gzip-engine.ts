import { constants, createGzip, type Gzip, type ZlibReset } from 'node:zlib';

/** A larger body, such as the page of a whole project, gets a buffer of its own. */
const KEPT_BYTES_MAX = 1024 * 1024;
/** Packed bodies share it: a small one for each would be one more run of zlib for what doesn't fit. */
const OUTPUT_BYTES = 128 * 1024;
/** Of UTF-8, for one of UTF-16. */
const BYTES_PER_UNIT_MAX = 3;

/** Whole, or in pieces: making one run of a long string costs more than all else that is done with it. */
export type Text = string | readonly string[];

/**
 * gzip with the memory that it takes: one body after another, each on a thread of libuv's. At the fastest level: the
 * next one saves a tenth more and costs half as much again. Called by gzip.ts.
 */
export class GzipEngine {
	/** Node's pages promise `reset` of deflate alone; gzip is zlib's deflate with a header and a check sum. */
	readonly #gzip: Gzip & ZlibReset;
	#input = Buffer.alloc(0);
	#output: Buffer[] = [];
	#isWell = true;

	constructor() {
		// Each write is a whole body: its last byte ends the stream, and `reset` begins the next.
		const { Z_BEST_SPEED: level, Z_FINISH: flush } = constants;
		this.#gzip = createGzip({ level, flush, chunkSize: OUTPUT_BYTES }) as Gzip & ZlibReset;
		this.#gzip.on('data', (chunk: Buffer) => this.#output.push(chunk));
		// Told by the write.
		this.#gzip.on('error', () => {});
	}

	/** False: not to be asked again. */
	get isWell(): boolean {
		return this.#isWell;
	}

	/** The next one only after this is settled. */
	async pack(body: Text): Promise<Buffer> {
		this.#isWell = false;
		const input = this.#written(typeof body === 'string' ? [body] : body);
		await new Promise<void>((resolve, reject) =>
			this.#gzip.write(input, (error) => (error ? reject(error) : resolve())),
		);
		this.#gzip.reset();
		const output = this.#output;
		this.#output = [];
		this.#isWell = true;
		return output.length === 1 ? (output[0] as Buffer) : Buffer.concat(output);
	}

	/** All of it, in the buffer that stays where it fits. */
	#written(pieces: readonly string[]): Buffer {
		let at = 0;
		let into = this.#input;
		for (const piece of pieces) {
			if (piece.length * BYTES_PER_UNIT_MAX > into.length - at) {
				const until = at + Buffer.byteLength(piece);
				if (until > into.length) {
					const larger = Buffer.allocUnsafeSlow(Math.max(until, into.length * 2));
					into.copy(larger, 0, 0, at);
					into = larger;
				}
			}
			at += into.write(piece, at);
		}
		if (into.length <= KEPT_BYTES_MAX) this.#input = into;
		return into.subarray(0, at);
	}
}
