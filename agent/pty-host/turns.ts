import type { Clock, Timer } from '../../kit/clock.ts';

/**
 * The screens of all terminals of a node are read in one loop, the one that also carries everybody's keys and echoes. A
 * turn of a screen is short, and what it took is paid for by rest, so that all screens together take a fifth of the loop
 * and share it alike: a terminal whose output is costly to read reads its own late, and its program waits for it. While one
 * terminal alone is active nobody is kept waiting, and it reads as fast as it can. Nor does anybody rest while the fifth is
 * not used: then whoever has rested longest is next.
 */
export interface Reader {
	/** Reads until `untilMs`, a little over at most; whether something is left. */
	read(untilMs: number): boolean;
}

/** Longer than the cheapest of steps, shorter than anybody notices in an echo. */
export const turnMs = 1;
/** Of the loop, for all screens together, while more than one terminal is active. */
export const readingShare = 1 / 5;
/** One that took long comes again all the same: a snapshot of the largest of screens takes a second. */
const REST_MS_MAX = 10_000;
/** What is left of the share while nobody reads is kept for a burst of this. */
const SPARE_MS_MAX = 20;
/** And what all together took too much is forgotten beyond this, or beyond the last turn: a burst makes nobody wait for long. */
const OWED_MS_MAX = 100;
/** Whoever typed or wrote so lately is active. */
const ACTIVE_MS = 1_000;

interface Activity {
	readonly owner: object;
	atMs: number;
}

export class Turns {
	readonly #clock: Clock;
	readonly #waiting = new Set<Reader>();
	/** When what a reader took is paid for. */
	readonly #restUntilMs = new WeakMap<Reader, number>();
	/** The newest activity, and the newest of anybody else. */
	#newest: Activity | undefined;
	#former: Activity | undefined;
	#isDue = false;
	#timer: Timer | undefined;
	/** Of their share, what readers have not taken yet; negative: taken ahead. */
	#spareMs = 0;
	#spareAtMs: number;

	constructor(clock: Clock) {
		this.#clock = clock;
		this.#spareAtMs = clock.monotonic();
	}

	nowMs(): number {
		return this.#clock.monotonic();
	}

	/** Somebody typed into, or wrote on, the terminal of a reader, or something else that `owner` is. */
	note(owner: object): void {
		const atMs = this.nowMs();
		if (this.#newest?.owner === owner) {
			this.#newest.atMs = atMs;
			return;
		}
		this.#former = this.#newest;
		this.#newest = { owner, atMs };
	}

	want(reader: Reader): void {
		this.#waiting.add(reader);
		this.#schedule();
	}

	/** It is gone. */
	forget(reader: Reader): void {
		this.#waiting.delete(reader);
	}

	#schedule(): void {
		if (this.#isDue || this.#waiting.size === 0) return;
		this.#timer?.cancel();
		this.#timer = undefined;
		this.#isDue = true;
		this.#clock.defer(() => {
			this.#isDue = false;
			this.#turn();
		});
	}

	#turn(): void {
		const beganMs = this.nowMs();
		let next: Reader | undefined;
		let nextMs = Number.POSITIVE_INFINITY;
		for (const reader of this.#waiting) {
			const restUntilMs = this.#restUntilMs.get(reader) ?? 0;
			if (restUntilMs >= nextMs) continue;
			next = reader;
			nextMs = restUntilMs;
		}
		if (next === undefined) return;
		this.#spareMs = Math.min(SPARE_MS_MAX, this.#spareMs + (beganMs - this.#spareAtMs) * readingShare);
		this.#spareAtMs = beganMs;
		if (nextMs > beganMs && this.#spareMs <= 0 && this.#isShared(next, beganMs)) {
			// A little above nothing, so that the timer isn't early by what a number of ms can't say.
			const spareInMs = (turnMs / 10 - this.#spareMs) / readingShare;
			this.#timer = this.#clock.setTimer(() => this.#schedule(), Math.min(nextMs - beganMs, spareInMs));
			return;
		}
		const sharers = this.#waiting.size;
		// To the end of those that wait.
		this.#waiting.delete(next);
		if (next.read(beganMs + turnMs)) this.#waiting.add(next);
		const endedMs = this.nowMs();
		const tookMs = endedMs - beganMs;
		this.#spareMs = Math.max(this.#spareMs - tookMs, -Math.max(OWED_MS_MAX, tookMs));
		const restMs = Math.max(0, nextMs - endedMs) + tookMs * (sharers / readingShare - 1);
		this.#restUntilMs.set(next, endedMs + Math.min(REST_MS_MAX, restMs));
		this.#schedule();
	}

	/** Whether anybody else is active. */
	#isShared(reader: Reader, nowMs: number): boolean {
		const isOther = (one: Activity | undefined) =>
			one !== undefined && one.owner !== reader && nowMs - one.atMs < ACTIVE_MS;
		return this.#waiting.size > 1 || isOther(this.#newest) || isOther(this.#former);
	}
}
