import { createHash } from 'node:crypto';

/** Lines kept for whoever looks at a failure. */
const TAIL_LINES_MAX = 400;

/**
 * What happened, line by line, and one hash over all of it: two runs of a seed that differ anywhere differ here. Owned
 * by the world; every part writes what it did that others could see.
 */
export class Trace {
	readonly #hash = createHash('sha256');
	readonly #print: ((line: string) => void) | undefined;
	#tail: string[] = [];
	#lines = 0;
	#ended = false;

	/** `print` gets every line at once: `npm run sim -- --seed N --trace`. */
	constructor(print?: (line: string) => void) {
		this.#print = print;
	}

	line(atMs: number, text: string): void {
		if (this.#ended) return;
		const line = `${atMs.toFixed(3)} ${text}`;
		this.#hash.update(line).update('\n');
		this.#lines += 1;
		this.#tail.push(line);
		if (this.#tail.length >= TAIL_LINES_MAX * 2) this.#tail = this.#tail.slice(-TAIL_LINES_MAX);
		this.#print?.(line);
	}

	/** Bytes that are part of what happened and too long to print. */
	bytes(content: Uint8Array): void {
		if (!this.#ended) this.#hash.update(content);
	}

	get lines(): number {
		return this.#lines;
	}

	tail(): readonly string[] {
		return this.#tail.slice(-TAIL_LINES_MAX);
	}

	/** Ends the trace. */
	digest(): string {
		this.#ended = true;
		return this.#hash.digest('hex');
	}
}
