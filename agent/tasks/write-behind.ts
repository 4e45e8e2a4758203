import type { Clock, Timer } from '../../kit/clock.ts';
import type { Logger } from '../../kit/log.ts';
import { SparingLog } from '../../kit/sparing-log.ts';
import type { Journal } from '../journal/journal.ts';

/**
 * Journal writes about things that have already happened (a start, an end). With few tasks an end is committed at once,
 * and a start waits for it a moment, so that a short task is one commit, one message and one change of state from here
 * to whoever follows it; with many those that come close together share a commit, so that hundreds of short tasks a
 * second cost few syncs, here and in everything that their facts go through. Order is kept. A write that meets a full or
 * broken disk stays and is tried again: what it tells is still known to the process host, so a crash loses nothing.
 */
export interface Write {
	/** Runs inside the transaction; may run again when the commit failed. */
	readonly change: () => void;
	/** After the commit. */
	readonly after?: () => void;
}

const RETRY_MS = 1000;
/** Between commits when many tasks run: as much as a result may then be late. */
const SPACING_MS = 10;
/** How late a start may be told, so that the end of a program that only ever takes milliseconds goes with it. */
export const START_LINGER_MS = 5;

export class WriteBehind {
	readonly #clock: Clock;
	readonly #journal: Journal;
	readonly #floods: SparingLog;
	#writes: Write[] = [];
	#isScheduled = false;
	#retry: Timer | undefined;
	/** The next commit, when it isn't in this turn. */
	#waiting: Timer | undefined;
	#waitsUntilMs = 0;
	#flushedAtMs = Number.NEGATIVE_INFINITY;
	#closed = false;

	readonly #isBusy: () => boolean;

	/** `isBusy`: more writes are sure to come soon. */
	constructor(clock: Clock, journal: Journal, log: Logger, isBusy: () => boolean) {
		this.#isBusy = isBusy;
		this.#clock = clock;
		this.#journal = journal;
		this.#floods = new SparingLog(log, clock);
	}

	/** `lingerMs`: how long it may wait for others to share its commit. */
	add(write: Write, lingerMs = 0): void {
		this.#writes.push(write);
		if (this.#isScheduled || this.#retry !== undefined) return;
		const nowMs = this.#clock.monotonic();
		const spacingMs = this.#isBusy() ? this.#flushedAtMs + SPACING_MS - nowMs : 0;
		const waitMs = Math.max(spacingMs, lingerMs);
		if (waitMs > 0) {
			this.#wait(nowMs + waitMs, waitMs);
			return;
		}
		this.#isScheduled = true;
		this.#clock.defer(() => {
			this.#isScheduled = false;
			this.flush();
		});
	}

	/** Never later than what is already waited for. */
	#wait(untilMs: number, waitMs: number): void {
		if (this.#waiting !== undefined && this.#waitsUntilMs <= untilMs) return;
		this.#waiting?.cancel();
		this.#waitsUntilMs = untilMs;
		this.#waiting = this.#clock.setTimer(() => this.flush(), waitMs);
	}

	/** Commits what is waiting; false when the journal refused it. */
	flush(): boolean {
		this.#waiting?.cancel();
		this.#waiting = undefined;
		if (this.#writes.length === 0 || this.#closed) return true;
		const writes = this.#writes;
		this.#writes = [];
		this.#flushedAtMs = this.#clock.monotonic();
		try {
			this.#journal.transaction(() => {
				for (const { change } of writes) change();
			});
		} catch (error) {
			this.#writes = [...writes, ...this.#writes];
			this.#floods.error('the journal could not be written and is tried again', { error, writes: writes.length });
			this.#retry ??= this.#clock.setTimer(() => {
				this.#retry = undefined;
				this.flush();
			}, RETRY_MS);
			return false;
		}
		for (const { after } of writes) after?.();
		return true;
	}

	/** Commits what is waiting, once more, and takes nothing after. */
	close(): void {
		this.flush();
		this.#closed = true;
		this.#retry?.cancel();
	}
}
