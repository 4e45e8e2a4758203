import type { Clock } from '../../../kit/clock.ts';
import type { Rng } from '../../../kit/ids.ts';
import { TokenBucket } from '../../../kit/limits.ts';

/**
 * Admits so many Hellos per second. Whoever comes too early is given a place in a virtual queue and told to return
 * about then: a storm of 10,000 agents drains at the admitted rate instead of knocking again every second. Nothing is
 * kept for the refused: one number says where the queue ends.
 */
export class HelloAdmission {
	readonly #bucket: TokenBucket;
	readonly #clock: Clock;
	readonly #rng: Rng;
	readonly #slotMs: number;
	readonly #retryAfterMaxMs: number;
	#queueEndsAtMs = 0;

	constructor(clock: Clock, rng: Rng, hellosPerSecondMax: number, retryAfterMaxMs = 60_000) {
		// A tenth of a second at once: a larger burst would stall the live streams that it shares the process with.
		this.#bucket = new TokenBucket(clock, hellosPerSecondMax, Math.max(1, hellosPerSecondMax / 10));
		this.#clock = clock;
		this.#rng = rng;
		this.#slotMs = 1000 / hellosPerSecondMax;
		this.#retryAfterMaxMs = retryAfterMaxMs;
	}

	/** One that was admitted is refused for another reason, and costs the others nothing. */
	giveBack(): void {
		this.#bucket.giveBack(1);
	}

	/** 0: admitted. Else how long the agent should stay away, in ms. */
	admit(): number {
		const waitMs = this.#bucket.take();
		if (waitMs === 0) return 0;
		const nowMs = this.#clock.monotonic();
		this.#queueEndsAtMs = Math.max(nowMs + waitMs, this.#queueEndsAtMs) + this.#slotMs;
		const placeMs = Math.min(this.#queueEndsAtMs - nowMs, this.#retryAfterMaxMs);
		// A tenth of jitter: places are already apart, and round trips differ.
		return Math.ceil(placeMs * (1 + this.#rng.float() / 10));
	}
}
