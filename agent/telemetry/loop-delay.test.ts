import { expect, test } from 'vitest';
import { sleep, systemClock } from '../../kit/clock.ts';
import { LoopDelay } from './loop-delay.ts';

/** As a synchronous call into a driver would. */
function block(ms: number): void {
	const untilMs = systemClock.monotonic() + ms;
	while (systemClock.monotonic() < untilMs);
}

test('sees whatever holds the loop up, once, and keeps the worst', async () => {
	using delay = new LoopDelay();
	const seen = async () => {
		block(400);
		// The monitor notices when the loop turns.
		await sleep(systemClock, 50);
		return delay.takeMaxMs();
	};
	await expect.poll(seen).toBeGreaterThan(200);
	const worstMs = delay.maxEverMs;
	await expect.poll(() => delay.takeMaxMs()).toBeLessThan(200);
	expect(delay.maxEverMs).toBeGreaterThanOrEqual(worstMs);
	delay.forget();
	expect(delay.maxEverMs).toBe(0);
});
