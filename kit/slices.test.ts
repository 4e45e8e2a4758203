import { expect, test } from 'vitest';
import { systemClock } from './clock.ts';
import { Slices } from './slices.ts';

test('a slice is over after its time, and the next begins in another turn', async () => {
	let nowMs = 0;
	let turns = 0;
	const defer = (callback: () => void) => {
		turns += 1;
		// Turns of others take their time too: it isn't that of the next slice.
		nowMs += 100;
		systemClock.defer(callback);
	};
	const slices = new Slices({ ...systemClock, monotonic: () => nowMs, defer }, 8);
	expect(slices.isOver).toBe(false);
	nowMs = 7;
	expect(slices.isOver).toBe(false);
	nowMs = 8;
	expect(slices.isOver).toBe(true);
	await slices.next();
	expect([turns, slices.isOver]).toEqual([1, false]);
	nowMs += 8;
	expect(slices.isOver).toBe(true);
});
