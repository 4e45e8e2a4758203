import { expect, test } from 'vitest';
import { every, sleep, systemClock } from './clock.ts';
import { VirtualClock } from './virtual-clock.ts';

test('timers fire at their own time, in order, and those set on the way too', () => {
	const clock = new VirtualClock(1000);
	const seen: string[] = [];
	const log = (name: string) => () => seen.push(`${name}@${clock.monotonic()}`);
	clock.setTimer(log('b'), 20);
	clock.setTimer(log('a'), 10);
	clock.setTimer(log('a2'), 10);
	clock.setTimer(() => clock.setTimer(log('nested'), 5), 10);
	clock.setTimer(log('cancelled'), 15).cancel();
	clock.defer(log('now'));
	expect(clock.nextInMs()).toBe(0);
	clock.advance(15);
	expect(seen).toEqual(['now@0', 'a@10', 'a2@10', 'nested@15']);
	expect([clock.now(), clock.pending, clock.nextInMs()]).toEqual([1015, 1, 5]);
	clock.advance(100);
	expect(seen.at(-1)).toBe('b@20');
	expect(clock.nextInMs()).toBeUndefined();
	expect(() => clock.advance(-1)).toThrow('never goes back');
});

test('sleep ends with its time or its signal', async () => {
	const clock = new VirtualClock();
	let done = 0;
	const controller = new AbortController();
	const both = [sleep(clock, 10), sleep(clock, 1000, controller.signal)].map((each) => each.then(() => (done += 1)));
	clock.advance(10);
	await both[0];
	expect(done).toBe(1);
	controller.abort();
	await both[1];
	expect(clock.pending).toBe(0);
	await sleep(clock, 1000, controller.signal);
});

test('every repeats, survives what throws, and ends', () => {
	const clock = new VirtualClock();
	const errors: unknown[] = [];
	let calls = 0;
	const timer = every(
		clock,
		10,
		() => {
			calls += 1;
			if (calls === 2) throw new Error('two');
		},
		(error) => errors.push(error),
	);
	clock.advance(35);
	expect([calls, errors.length]).toEqual([3, 1]);
	timer.cancel();
	clock.advance(100);
	expect([calls, clock.pending]).toEqual([3, 0]);
});

test('a timer that cancels itself from inside does not come back', () => {
	const clock = new VirtualClock();
	let calls = 0;
	const timer = every(
		clock,
		10,
		() => {
			calls += 1;
			timer.cancel();
		},
		() => {},
	);
	clock.advance(100);
	expect(calls).toBe(1);
});

test('the system clock runs, and takes delays that Node would turn into 1 ms', async () => {
	const before = systemClock.monotonic();
	const far = systemClock.setTimer(() => expect.unreachable('fired'), Number.POSITIVE_INFINITY);
	await new Promise<void>((resolve) => systemClock.setTimer(resolve, 5));
	await new Promise<void>((resolve) => systemClock.defer(resolve));
	far.cancel();
	expect(systemClock.monotonic()).toBeGreaterThan(before);
	expect(Math.abs(systemClock.now() - new Date(systemClock.now()).getTime())).toBe(0);
});
