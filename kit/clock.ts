/**
 * Time as an argument. Production passes `systemClock`; the simulation passes a virtual clock, so that leases,
 * timeouts and backoff run in microseconds and in the same order every time.
 *
 * `now` is the wall clock (may jump: never measure a duration with it); `monotonic` never goes back and has no epoch.
 */
export interface Clock {
	/** Milliseconds since the Unix epoch, UTC. */
	now(): number;
	/** Milliseconds from an arbitrary origin, never decreasing. */
	monotonic(): number;
	/** Calls `callback` once after at least `delayMs`. The timer doesn't keep the process alive. */
	setTimer(callback: () => void, delayMs: number): Timer;
	/** Calls `callback` once, after the I/O that is ready now: the grouping point of the store's writer. */
	defer(callback: () => void): void;
}

export interface Timer {
	/** Idempotent. */
	cancel(): void;
}

function arm(fire: () => void, delayMs: number): NodeJS.Timeout {
	// Node clamps delays above 2^31-1 ms to 1 ms, which would turn "never" into "at once".
	return setTimeout(fire, Math.min(Math.max(0, delayMs), 0x7fff_ffff)).unref();
}

export const systemClock: Clock = {
	now: () => Date.now(),
	monotonic: () => performance.now(),
	setTimer(callback, delayMs) {
		const dueMs = performance.now() + delayMs;
		let handle = arm(fire, delayMs);
		// Node counts in whole milliseconds and rings up to two too early: whoever looks at the clock would not find it due.
		function fire(): void {
			const earlyMs = dueMs - performance.now();
			if (earlyMs > 0) handle = arm(fire, earlyMs);
			else callback();
		}
		return { cancel: () => clearTimeout(handle) };
	},
	defer: (callback) => void setImmediate(callback),
};

/** Resolves after `delayMs`, or at once when `signal` aborts (it never rejects: look at `signal.aborted`). */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
	if (signal?.aborted) return Promise.resolve();
	return new Promise((resolve) => {
		const finish = () => {
			timer.cancel();
			signal?.removeEventListener('abort', finish);
			resolve();
		};
		const timer = clock.setTimer(finish, delayMs);
		signal?.addEventListener('abort', finish, { once: true });
	});
}

/** Lets what else waits in this process run, I/O too: for work that is cut into pieces. */
export function yieldTurn(clock: Clock): Promise<void> {
	return new Promise((resolve) => clock.defer(resolve));
}

/** Calls `task` every `periodMs` until the returned timer is cancelled; a call that throws is given to `onError`. */
export function every(clock: Clock, periodMs: number, task: () => void, onError: (error: unknown) => void): Timer {
	let timer: Timer | undefined;
	let cancelled = false;
	const arm = () => {
		timer = clock.setTimer(() => {
			try {
				task();
			} catch (error) {
				onError(error);
			}
			if (!cancelled) arm();
		}, periodMs);
	};
	arm();
	return {
		cancel() {
			cancelled = true;
			timer?.cancel();
		},
	};
}

/** Keeps the process alive until disposed; our timers don't, so a program that only waits needs one of these. */
export function keepAlive(): Disposable {
	const handle = setInterval(() => {}, 0x7fff_ffff);
	return { [Symbol.dispose]: () => clearInterval(handle) };
}
