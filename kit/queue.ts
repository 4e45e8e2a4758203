/**
 * A bounded queue between one producer side and one consumer that iterates it. `push` says whether it took the item:
 * the producer decides what a full queue means (refuse, pause, drop and count); nothing is dropped silently.
 */
export class BoundedQueue<T> implements AsyncIterable<T> {
	readonly #itemsMax: number;
	readonly #items: T[] = [];
	#head = 0;
	#wake: (() => void) | undefined;
	#spaceWaiters: (() => void)[] = [];
	#closed = false;
	#error: unknown;

	constructor(itemsMax: number) {
		this.#itemsMax = itemsMax;
	}

	get size(): number {
		return this.#items.length - this.#head;
	}

	get closed(): boolean {
		return this.#closed;
	}

	/** False when the queue is full or closed. */
	push(item: T): boolean {
		if (this.#closed || this.size >= this.#itemsMax) return false;
		this.#items.push(item);
		this.#wake?.();
		return true;
	}

	/** Waits for room, then pushes; false when the queue was closed meanwhile. */
	async put(item: T): Promise<boolean> {
		while (!this.#closed && this.size >= this.#itemsMax) {
			await new Promise<void>((resolve) => this.#spaceWaiters.push(resolve));
		}
		return this.push(item);
	}

	/** Ends the iteration after what is queued; with `error` the iteration then throws it. Idempotent. */
	close(error?: unknown): void {
		if (this.#closed) return;
		this.#closed = true;
		this.#error = error;
		this.#wake?.();
		this.#releaseWaiters();
	}

	#releaseWaiters(): void {
		const waiters = this.#spaceWaiters;
		this.#spaceWaiters = [];
		for (const resolve of waiters) resolve();
	}

	#shift(): T {
		const item = this.#items[this.#head] as T;
		this.#items[this.#head] = undefined as T;
		this.#head += 1;
		// Compact seldom, so that a shift costs O(1) on average even at 10^5 items.
		if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
			this.#items.splice(0, this.#head);
			this.#head = 0;
		}
		if (this.#spaceWaiters.length > 0) this.#releaseWaiters();
		return item;
	}

	async *[Symbol.asyncIterator](): AsyncGenerator<T, void, void> {
		try {
			for (;;) {
				while (this.size > 0) yield this.#shift();
				if (this.#closed) {
					if (this.#error !== undefined) throw this.#error;
					return;
				}
				await new Promise<void>((resolve) => {
					this.#wake = resolve;
				});
				this.#wake = undefined;
			}
		} finally {
			this.close();
		}
	}
}
