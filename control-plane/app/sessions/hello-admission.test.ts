import { expect, test } from 'vitest';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import { HelloAdmission } from './hello-admission.ts';

const rng = { bytes: (length: number) => new Uint8Array(length), float: () => 0 };

test('admits a burst, then the rate', () => {
	const clock = new VirtualClock();
	const admission = new HelloAdmission(clock, rng, 100);
	const admitted = () => {
		let count = 0;
		while (admission.admit() === 0) count += 1;
		return count;
	};
	expect(admitted()).toBe(10);
	clock.advance(50);
	expect(admitted()).toBe(5);
	clock.advance(10_000);
	expect(admitted()).toBe(10);
});

test('a storm is told to come back at the admitted rate, and drains when it does', () => {
	const clock = new VirtualClock();
	const admission = new HelloAdmission(clock, rng, 100);
	const waiting = Array.from({ length: 1000 }, () => clock.monotonic());
	const waits: number[] = [];
	let inside = 0;
	for (let index = 0; index < waiting.length; index += 1) {
		const waitMs = admission.admit();
		if (waitMs === 0) inside += 1;
		else waits.push(waitMs);
	}
	expect(inside).toBe(10);
	// 990 places, 10 ms apart.
	expect(waits[0]).toBeLessThan(50);
	expect(waits.at(-1)).toBeGreaterThan(9800);
	expect(waits.at(-1)).toBeLessThan(10_500);
	const dueMs = waits.sort((a, b) => a - b);
	let elapsedMs = 0;
	let again = 0;
	for (const due of dueMs) {
		clock.advance(due - elapsedMs);
		elapsedMs = due;
		if (admission.admit() > 0) again += 1;
	}
	expect(again).toBeLessThan(dueMs.length / 10);
});

test('no wait is longer than the bound', () => {
	const admission = new HelloAdmission(new VirtualClock(), { ...rng, float: () => 0.999 }, 1, 5000);
	let longestMs = 0;
	for (let count = 0; count < 100; count += 1) longestMs = Math.max(longestMs, admission.admit());
	expect(longestMs).toBeLessThanOrEqual(5500);
});

test('one that was refused for its own sake is given back to the others', () => {
	const admission = new HelloAdmission(new VirtualClock(), rng, 10);
	for (let tries = 0; tries < 100; tries += 1) {
		expect(admission.admit()).toBe(0);
		admission.giveBack();
	}
	expect(admission.admit()).toBe(0);
	expect(admission.admit()).toBeGreaterThan(0);
});
