import type { Clock, Timer } from '../../kit/clock.ts';

/**
 * Gives back what can't be given back yet. A cgroup is gone only when everybody inside is, and who was killed a moment
 * ago may still be on its way out: a place that was tried for once would be lost for the life of the host.
 */
const FIRST_MS = 20;
const LONGEST_MS = 60_000;
/** Some 45 minutes; who is inside then is stuck in the kernel, and the next host finds what it leaves. */
const TRIES_MAX = 56;

export class BoxRemover {
	readonly #clock: Clock;
	readonly #timers = new Set<Timer>();

	constructor(clock: Clock) {
		this.#clock = clock;
	}

	/** Tries at once, and again later until it works; true when it has worked at once. */
	remove(tryOnce: () => boolean): boolean {
		if (tryOnce()) return true;
		this.#later(tryOnce, 1);
		return false;
	}

	close(): void {
		for (const timer of this.#timers) timer.cancel();
		this.#timers.clear();
	}

	#later(tryOnce: () => boolean, tries: number): void {
		if (tries >= TRIES_MAX) return;
		const delayMs = Math.min(LONGEST_MS, FIRST_MS * 2 ** (tries - 1));
		const timer = this.#clock.setTimer(() => {
			this.#timers.delete(timer);
			if (!tryOnce()) this.#later(tryOnce, tries + 1);
		}, delayMs);
		this.#timers.add(timer);
	}
}
