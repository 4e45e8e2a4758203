import { type Clock, sleep } from './clock.ts';
import type { Rng } from './ids.ts';

/** Exponential backoff with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"): uniform in [0, cap]. */
export interface BackoffOptions {
	readonly baseMs: number;
	readonly maxMs: number;
	/** No delay is shorter than this, so that jitter can't turn a retry into a spin. */
	readonly floorMs?: number;
}

export class Backoff {
	readonly #options: BackoffOptions;
	readonly #rng: Rng;
	#attempt = 0;

	constructor(options: BackoffOptions, rng: Rng) {
		this.#options = options;
		this.#rng = rng;
	}

	/** The next delay in ms; honours a server's `retryAfterMs` as a lower bound. */
	nextMs(retryAfterMs = 0): number {
		const { baseMs, maxMs, floorMs = 0 } = this.#options;
		const cap = Math.min(maxMs, baseMs * 2 ** Math.min(this.#attempt, 30));
		this.#attempt += 1;
		return Math.max(floorMs, retryAfterMs, this.#rng.float() * cap);
	}

	reset(): void {
		this.#attempt = 0;
	}
}

/** Calls `attempt` until it succeeds, `isTransient` says no, or `signal` aborts; rethrows the last error. */
export async function retry<T>(
	clock: Clock,
	backoff: Backoff,
	attempt: () => Promise<T>,
	isTransient: (error: unknown) => boolean,
	signal: AbortSignal,
): Promise<T> {
	for (;;) {
		try {
			return await attempt();
		} catch (error) {
			if (!isTransient(error) || signal.aborted) throw error;
			await sleep(clock, backoff.nextMs(), signal);
			if (signal.aborted) throw error;
		}
	}
}
