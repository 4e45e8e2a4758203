/**
 * Input on its way to a program, numbered as the program's stdin. It is kept until the node has taken it, so that a new
 * stream of the agent goes on where the old one was. Bounded by whoever pushes: see `room`.
 */
export interface InputChunk<Owner> {
	readonly offset: number;
	readonly data: Uint8Array;
	readonly end: boolean;
	readonly owner: Owner;
}

export class InputQueue<Owner> {
	#chunks: InputChunk<Owner>[] = [];
	#next = 0;
	#acked = 0;
	#isPlaced = false;
	#isOver = false;
	#waiters: (() => void)[] = [];

	/** Offset of the next byte. */
	get next(): number {
		return this.#next;
	}

	/** The node has everything below. */
	get acked(): number {
		return this.#acked;
	}

	/** Waiting for the node. */
	get bytes(): number {
		return this.#next - this.#acked;
	}

	get isOver(): boolean {
		return this.#isOver;
	}

	/** Where the program's stdin is, by the node's first word: what was pushed before goes on from there. */
	startAt(offset: number): void {
		if (this.#isPlaced) return;
		this.#isPlaced = true;
		const by = offset - this.#acked;
		this.#chunks = this.#chunks.map((chunk) => ({ ...chunk, offset: chunk.offset + by }));
		this.#next += by;
		this.#acked += by;
		this.wake();
	}

	/** Resolves when `startAt` was called, or `isGone`. */
	placed(signal: AbortSignal, isGone: () => boolean): Promise<void> {
		return this.#until(() => this.#isPlaced, signal, isGone);
	}

	/** Resolves when so many bytes more are within the bound, or nothing waits, or `isGone`. */
	room(bytes: number, bytesMax: number, signal: AbortSignal, isGone: () => boolean): Promise<void> {
		return this.#until(() => this.bytes === 0 || this.bytes + bytes <= bytesMax, signal, isGone);
	}

	/** Leaves no listener on a signal that lives for hours. */
	async #until(isSo: () => boolean, signal: AbortSignal, isGone: () => boolean): Promise<void> {
		while (!isSo() && !signal.aborted && !isGone()) {
			const { promise, resolve } = Promise.withResolvers<void>();
			const wake = () => resolve();
			this.#waiters.push(wake);
			signal.addEventListener('abort', wake, { once: true });
			await promise;
			signal.removeEventListener('abort', wake);
		}
	}

	/** Whoever waits looks again. */
	wake(): void {
		const waiters = this.#waiters;
		this.#waiters = [];
		for (const resolve of waiters) resolve();
	}

	push(data: Uint8Array, end: boolean, owner: Owner): InputChunk<Owner> {
		const chunk = { offset: this.#next, data, end, owner };
		this.#chunks.push(chunk);
		this.#next += data.length;
		this.#isOver ||= end;
		return chunk;
	}

	/** The node has everything below; returns whose bytes those were, and how many of each chunk. */
	ack(offset: number): readonly { readonly owner: Owner; readonly bytes: number }[] {
		const taken: { readonly owner: Owner; readonly bytes: number }[] = [];
		const until = Math.min(offset, this.#next);
		let keep = 0;
		for (const chunk of this.#chunks) {
			const end = chunk.offset + chunk.data.length;
			const bytes = Math.min(end, until) - Math.max(chunk.offset, this.#acked);
			if (bytes > 0) taken.push({ owner: chunk.owner, bytes });
			// An end stays until the channel's own: nothing says that it arrived.
			if (end <= until && !chunk.end) keep += 1;
			else break;
		}
		if (keep > 0) this.#chunks = this.#chunks.slice(keep);
		this.#acked = Math.max(this.#acked, until);
		this.wake();
		return taken;
	}

	/** What the node has not taken, for a new stream. */
	pending(): readonly InputChunk<Owner>[] {
		return this.#chunks;
	}
}
