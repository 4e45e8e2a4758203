import { assert } from './assert.ts';
import type { Clock, Timer } from './clock.ts';

/**
 * A clock that moves only when told to: tests and the simulation run an hour of leases and backoff at once, in the same
 * order every time. Timers that fall due together fire in the order in which they were set.
 */
export class VirtualClock implements Clock {
	readonly #timers = new Set<{ readonly dueMs: number; readonly order: number; readonly callback: () => void }>();
	readonly #epochMs: number;
	#elapsedMs = 0;
	#order = 0;

	/** `epochMs`: the wall clock at the start. */
	constructor(epochMs = 1_800_000_000_000) {
		this.#epochMs = epochMs;
	}

	now(): number {
		return this.#epochMs + this.#elapsedMs;
	}

	monotonic(): number {
		return this.#elapsedMs;
	}

	setTimer(callback: () => void, delayMs: number): Timer {
		this.#order += 1;
		const timer = { dueMs: this.#elapsedMs + Math.max(0, delayMs), order: this.#order, callback };
		this.#timers.add(timer);
		return { cancel: () => void this.#timers.delete(timer) };
	}

	defer(callback: () => void): void {
		this.setTimer(callback, 0);
	}

	/** How many timers wait. */
	get pending(): number {
		return this.#timers.size;
	}

	/** Ms until the next timer, or undefined when none waits. */
	nextInMs(): number | undefined {
		const next = this.#next();
		return next === undefined ? undefined : next.dueMs - this.#elapsedMs;
	}

	/** Moves time forward, firing what falls due on the way, each at its own time. */
	advance(byMs: number): void {
		assert(byMs >= 0, 'virtual time never goes back');
		const untilMs = this.#elapsedMs + byMs;
		for (let next = this.#next(); next !== undefined && next.dueMs <= untilMs; next = this.#next()) {
			this.#timers.delete(next);
			this.#elapsedMs = next.dueMs;
			next.callback();
		}
		this.#elapsedMs = untilMs;
	}

	#next() {
		let first: { readonly dueMs: number; readonly order: number; readonly callback: () => void } | undefined;
		for (const timer of this.#timers) {
			if (
				first === undefined ||
				timer.dueMs < first.dueMs ||
				(timer.dueMs === first.dueMs && timer.order < first.order)
			)
				first = timer;
		}
		return first;
	}
}
