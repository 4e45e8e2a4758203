import { monitorEventLoopDelay } from 'node:perf_hooks';

/** How late this process's event loop was at its worst: what proves that a hanging driver holds nothing up. */
const RESOLUTION_MS = 20;

export class LoopDelay implements Disposable {
	readonly #monitor = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
	#maxEverMs = 0;

	constructor() {
		this.#monitor.enable();
	}

	/** Milliseconds, since the last call. The monitor's own period is in what it records. */
	takeMaxMs(): number {
		const maxMs = Math.max(0, this.#monitor.max / 1e6 - RESOLUTION_MS);
		this.#monitor.reset();
		if (maxMs > this.#maxEverMs) this.#maxEverMs = maxMs;
		return maxMs;
	}

	/** Since it began, as far as it was taken. */
	get maxEverMs(): number {
		return this.#maxEverMs;
	}

	/** What loading and starting took isn't what running takes. */
	forget(): void {
		this.#monitor.reset();
		this.#maxEverMs = 0;
	}

	[Symbol.dispose](): void {
		this.#monitor.disable();
	}
}
