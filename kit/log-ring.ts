/**
 * The newest lines of a log, in memory, for diagnosis on request: whoever looks after a process need not find where its
 * standard error goes. Lines pass on to `next` first.
 */
export class LogRing {
	readonly #next: { write(line: string): void };
	readonly #bytesMax: number;
	#lines: string[] = [];
	#bytes = 0;
	#written = 0;

	constructor(next: { write(line: string): void }, bytesMax: number) {
		this.#next = next;
		this.#bytesMax = bytesMax;
	}

	write(line: string): void {
		this.#next.write(line);
		this.#lines.push(line);
		this.#written += 1;
		this.#bytes += Buffer.byteLength(line);
		if (this.#bytes <= this.#bytesMax) return;
		// Half at once: dropping one for each that comes would move all of them each time.
		let kept = 0;
		let from = this.#lines.length;
		while (from > 0 && kept + Buffer.byteLength(this.#lines[from - 1] ?? '') <= this.#bytesMax / 2) {
			from -= 1;
			kept += Buffer.byteLength(this.#lines[from] ?? '');
		}
		this.#lines = this.#lines.slice(from);
		this.#bytes = kept;
	}

	/** Lines so far, also those that are no longer kept. */
	get written(): number {
		return this.#written;
	}

	/** Whole lines, oldest first, at most `bytesMax`; without the first `from` that were ever written. */
	text(from = 0): string {
		const gone = this.#written - this.#lines.length;
		return this.#lines.slice(Math.max(0, from - gone)).join('');
	}
}
