import { closeSync, openSync, write, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock, Timer } from '../../kit/clock.ts';

/**
 * Steps of this process into a cgroup and back home. The kernel guards every such step with one lock for the whole
 * machine that is made for readers (forks): the first writer after a pause waits for an RCU grace period, 8 to 28 ms
 * (Linux 6.0 and newer, measured), whoever follows within a few ms for nothing (0.05 ms). So that wait is taken on
 * another thread, where it holds up nobody, and while tasks keep coming the lock is kept warm by steps that lead nowhere.
 *
 * Invariant: no step of the other thread is under way while this one is in a task's cgroup.
 */
/** Shorter than any grace period that was seen. */
const WARM_MS = 4;
/** After the last launch; tasks in a row then cost one wait together. */
const KEEP_WARM_MS = 1000;

export class CgroupMoves {
	readonly #clock: Clock;
	readonly #homeFd: number;
	#movedAtMs = Number.NEGATIVE_INFINITY;
	#keepUntilMs = Number.NEGATIVE_INFINITY;
	#warming: Promise<void> | undefined;
	#timer: Timer | undefined;

	/** `home`: the folder of the cgroup that this process lives in. Throws when it can't be written. */
	constructor(clock: Clock, home: string) {
		this.#clock = clock;
		this.#homeFd = openSync(join(home, 'cgroup.procs'), 'w');
	}

	/** Calls `work`, which must not await, inside `cgroup`, then `after` back home. Rejects with what they throw. */
	async inside<T>(cgroup: string, work: () => T, after: () => void): Promise<T> {
		this.#keepUntilMs = this.#clock.monotonic() + KEEP_WARM_MS;
		if (!this.#isWarm()) await this.#warm();
		while (this.#warming !== undefined) await this.#warming;
		writeFileSync(join(cgroup, 'cgroup.procs'), '0');
		try {
			return work();
		} finally {
			writeSync(this.#homeFd, '0');
			this.#movedAtMs = this.#clock.monotonic();
			this.#arm();
			after();
		}
	}

	close(): void {
		this.#keepUntilMs = Number.NEGATIVE_INFINITY;
		this.#timer?.cancel();
		const close = () => closeSync(this.#homeFd);
		if (this.#warming === undefined) close();
		else void this.#warming.then(close);
	}

	#isWarm(): boolean {
		return this.#clock.monotonic() - this.#movedAtMs < 2 * WARM_MS;
	}

	#arm(): void {
		this.#timer ??= this.#clock.setTimer(() => {
			this.#timer = undefined;
			const nowMs = this.#clock.monotonic();
			if (nowMs > this.#keepUntilMs) return;
			if (nowMs - this.#movedAtMs >= WARM_MS) void this.#warm();
			this.#arm();
		}, WARM_MS);
	}

	/** From home to home; what fails here fails again, and is told, where it matters. */
	#warm(): Promise<void> {
		this.#warming ??= new Promise((resolve) => {
			write(this.#homeFd, '0', () => {
				this.#warming = undefined;
				this.#movedAtMs = this.#clock.monotonic();
				resolve();
			});
		});
		return this.#warming;
	}
}
