import { writeSync } from 'node:fs';
import type { Clock, Timer } from '../../kit/clock.ts';

/** After the kernel took nothing, doubled each time: a program that sleeps is asked ten times a second. */
const RETRY_MS_MIN = 5;
const RETRY_MS_MAX = 100;
/** At once, of much that is read as fast: other terminals come between. */
const AT_ONCE_BYTES = 64 << 10;

interface Piece {
	readonly bytes: Uint8Array;
	readonly done: () => void;
}

/**
 * Writes to the master of a pseudo-terminal. libuv can't: it takes a master for a stream that blocks, and where the kernel
 * takes nothing, because the program reads nothing, it tries again in a loop that never ends (uv__write). What waits is
 * bounded by whoever writes (stdinWindowBytes).
 */
export class PtyWriter {
	readonly #fd: number;
	readonly #isOpen: () => boolean;
	readonly #clock: Clock;
	readonly #queue: Piece[] = [];
	/** Of the first piece. */
	#written = 0;
	#timer: Timer | undefined;
	#retryMs = RETRY_MS_MIN;

	/** `isOpen`: from the moment on in which it is false, the number may be another file's. */
	constructor(fd: number, isOpen: () => boolean, clock: Clock) {
		this.#fd = fd;
		this.#isOpen = isOpen;
		this.#clock = clock;
	}

	/** `done` comes when the kernel has all of it; never, when the terminal is gone before. */
	write(bytes: Uint8Array, done: () => void): void {
		this.#queue.push({ bytes, done });
		if (this.#timer === undefined) this.#flush();
	}

	close(): void {
		this.#timer?.cancel();
		this.#timer = undefined;
		this.#queue.length = 0;
	}

	#flush(): void {
		this.#timer = undefined;
		let left = AT_ONCE_BYTES;
		for (let [first] = this.#queue; first !== undefined && left > 0; [first] = this.#queue) {
			const taken = this.#isOpen() ? this.#take(first.bytes) : 'gone';
			if (taken === 'gone') {
				this.close();
				return;
			}
			if (taken === 'full') {
				this.#later(this.#retryMs);
				this.#retryMs = Math.min(RETRY_MS_MAX, 2 * this.#retryMs);
				return;
			}
			this.#retryMs = RETRY_MS_MIN;
			left -= taken;
			this.#written += taken;
			if (this.#written < first.bytes.length) continue;
			this.#written = 0;
			this.#queue.shift();
			first.done();
		}
		if (this.#queue.length > 0) this.#later(0);
	}

	#take(bytes: Uint8Array): number | 'full' | 'gone' {
		try {
			return writeSync(this.#fd, bytes, this.#written);
		} catch (error) {
			return (error as NodeJS.ErrnoException).code === 'EAGAIN' ? 'full' : 'gone';
		}
	}

	#later(delayMs: number): void {
		this.#timer = this.#clock.setTimer(() => this.#flush(), delayMs);
	}
}
