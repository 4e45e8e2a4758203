import { expect, test, vi } from 'vitest';
import { keepAlive, systemClock } from './clock.ts';

test('a timer rings at its time or later, and never before', async () => {
	using _ = keepAlive();
	// Many, at all parts of a millisecond: one that is counted in whole milliseconds rings too early.
	const earlyMs = await Promise.all(
		Array.from({ length: 500 }, (_each, index) => {
			const dueMs = systemClock.monotonic() + 1 + index / 50;
			return new Promise<number>((resolve) => {
				systemClock.setTimer(() => resolve(dueMs - systemClock.monotonic()), dueMs - systemClock.monotonic());
			});
		}),
	);
	expect(earlyMs.filter((ms) => ms > 0)).toEqual([]);
});

test('a timer for longer than Node counts rings at its time, unless it is cancelled', () => {
	vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
	try {
		const dayMs = 86_400_000;
		const rung: string[] = [];
		systemClock.setTimer(() => rung.push('60 days'), 60 * dayMs);
		const cancelled = systemClock.setTimer(() => rung.push('cancelled'), 50 * dayMs);
		systemClock.setTimer(() => rung.push('never'), Number.POSITIVE_INFINITY);
		vi.advanceTimersByTime(49 * dayMs);
		cancelled.cancel();
		vi.advanceTimersByTime(11 * dayMs - 1);
		expect(rung).toEqual([]);
		vi.advanceTimersByTime(1);
		expect(rung).toEqual(['60 days']);
	} finally {
		vi.useRealTimers();
	}
});
