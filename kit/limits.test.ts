import fc from 'fast-check';
import { expect, test } from 'vitest';
import { KeyedBuckets, TokenBucket } from './limits.ts';
import { VirtualClock } from './virtual-clock.ts';

test('a burst at once, then the rate, and the wait that it names is enough', () => {
	const clock = new VirtualClock();
	const bucket = new TokenBucket(clock, 10, 2);
	expect([bucket.take(), bucket.take(), bucket.take()]).toEqual([0, 0, 100]);
	clock.advance(99);
	const waitMs = bucket.take();
	expect(waitMs).toBeGreaterThan(0);
	clock.advance(waitMs);
	expect(bucket.take()).toBe(0);
	clock.advance(60_000);
	expect(bucket.isFull()).toBe(true);
	expect([bucket.take(), bucket.take()]).toEqual([0, 0]);
	expect(bucket.take()).toBeGreaterThan(0);
});

test('never more than rate x time + burst', () => {
	fc.assert(
		fc.property(
			fc.integer({ min: 1, max: 100 }),
			fc.integer({ min: 1, max: 20 }),
			fc.array(fc.integer({ min: 0, max: 500 }), { maxLength: 200 }),
			(rate, burst, steps) => {
				const clock = new VirtualClock();
				const bucket = new TokenBucket(clock, rate, burst);
				let taken = 0;
				for (const step of steps) {
					clock.advance(step);
					if (bucket.take() === 0) taken += 1;
				}
				expect(taken).toBeLessThanOrEqual((clock.monotonic() / 1000) * rate + burst + 1e-6);
			},
		),
	);
});

test('one key does not use up another, and the number of keys is bounded', () => {
	const clock = new VirtualClock();
	const buckets = new KeyedBuckets(clock, 1, 1, 3);
	expect([buckets.take('a'), buckets.take('b')]).toEqual([0, 0]);
	expect(buckets.take('a')).toBe(1000);
	// Full buckets are forgotten first: nobody can tell.
	clock.advance(1000);
	expect([buckets.take('b'), buckets.take('c'), buckets.take('d')]).toEqual([0, 0, 0]);
	expect(buckets.take('b')).toBe(1000);
	// With none full, the oldest goes.
	expect(buckets.take('e')).toBe(0);
	expect(buckets.take('e')).toBe(1000);
});

test('a bucket that could never give is a bug', () => {
	expect(() => new TokenBucket(new VirtualClock(), 0, 1)).toThrow('positive rate');
	expect(() => new TokenBucket(new VirtualClock(), 1, 0)).toThrow('burst');
});
