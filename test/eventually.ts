import { sleep, systemClock } from '../kit/clock.ts';

/**
 * Waits until `probe` gives a value that is neither undefined nor false, and returns it. The deadline only ends what
 * hangs; how long it took means nothing. An exception of the last try is the cause of the failure.
 */
export async function eventually<T>(
	what: string,
	probe: () => T | Promise<T>,
	deadlineMs = 60_000,
): Promise<Exclude<T, undefined | false>> {
	const endMs = systemClock.monotonic() + deadlineMs;
	let cause: unknown;
	for (;;) {
		try {
			const value = await probe();
			if (value !== undefined && value !== false) return value as Exclude<T, undefined | false>;
			cause = undefined;
		} catch (error) {
			cause = error;
		}
		if (systemClock.monotonic() >= endMs) throw new Error(`waited ${deadlineMs} ms: ${what}`, { cause });
		await sleep(systemClock, 10);
	}
}
