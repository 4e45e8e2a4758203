import type { Clock, Timer } from '../../kit/clock.ts';

/** So much without a pause is a flood: more than a screen, which is shown as it comes. */
export const floodBytes = 16 << 10;
/** A pause, long for a program and short for a person: after it the first bytes go at once again. */
export const pauseMs = 10;
/** How long a flood's bytes wait for more. */
export const gatherMs = 1;

/**
 * When a program's output goes on its way. A key's echo goes in the turn that it came in, and so does an answer. A flood goes in
 * pieces as large as are asked for: a pseudo-terminal gives 4 KiB at a time, and each piece costs every process on the
 * way a message, and one back.
 */
export class FlushPace {
	readonly #clock: Clock;
	readonly #gatherBytes: number;
	readonly #flush: () => void;
	#isFlushDue = false;
	#timer: Timer | undefined;
	#cameAtMs = Number.NEGATIVE_INFINITY;
	#unpausedBytes = 0;

	constructor(clock: Clock, gatherBytes: number, flush: () => void) {
		this.#clock = clock;
		this.#gatherBytes = gatherBytes;
		this.#flush = flush;
	}

	/** So many bytes came, and so many were not sent. */
	came(bytes: number, unsentBytes: number): void {
		const nowMs = this.#clock.monotonic();
		if (nowMs - this.#cameAtMs > pauseMs) this.#unpausedBytes = 0;
		this.#cameAtMs = nowMs;
		this.#unpausedBytes += bytes;
		if (this.#unpausedBytes <= floodBytes) this.#inTurn();
		else if (unsentBytes >= this.#gatherBytes) this.now();
		else this.#timer ??= this.#clock.setTimer(() => this.now(), gatherMs);
	}

	/** Somebody wrote to the program: what it says next is an answer, which is waited for. */
	asked(): void {
		this.#unpausedBytes = 0;
	}

	/** It was held back, which is no pause of its own. */
	resumed(): void {
		if (this.#unpausedBytes > floodBytes) this.#cameAtMs = this.#clock.monotonic();
	}

	/** Nothing more comes for now. */
	now(): void {
		this.#timer?.cancel();
		this.#timer = undefined;
		this.#flush();
	}

	/** The first of a turn goes at once, for the echo's sake; what comes with it goes together. */
	#inTurn(): void {
		if (this.#isFlushDue) return;
		this.now();
		this.#isFlushDue = true;
		this.#clock.defer(() => {
			this.#isFlushDue = false;
			this.now();
		});
	}
}
