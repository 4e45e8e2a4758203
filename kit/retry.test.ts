import { expect, test } from 'vitest';
import { systemRng } from './ids.ts';
import { Backoff, retry } from './retry.ts';
import { VirtualClock } from './virtual-clock.ts';

const always = (value: number) => ({ ...systemRng, float: () => value });

test('the cap doubles up to its limit, jitter is full, the floor holds', () => {
	const top = new Backoff({ baseMs: 100, maxMs: 1000 }, always(1));
	expect(Array.from({ length: 6 }, () => top.nextMs())).toEqual([100, 200, 400, 800, 1000, 1000]);
	top.reset();
	expect(top.nextMs()).toBe(100);
	const bottom = new Backoff({ baseMs: 100, maxMs: 1000, floorMs: 30 }, always(0));
	expect([bottom.nextMs(), bottom.nextMs(5000)]).toEqual([30, 5000]);
});

test('after very many attempts the delay is still a number below the limit', () => {
	const backoff = new Backoff({ baseMs: 100, maxMs: 60_000 }, always(1));
	for (let attempt = 0; attempt < 5000; attempt += 1) backoff.nextMs();
	expect(backoff.nextMs()).toBe(60_000);
});

async function settle(clock: VirtualClock, promise: Promise<unknown>): Promise<void> {
	let done = false;
	const mark = () => {
		done = true;
	};
	promise.then(mark, mark);
	while (!done) {
		await Promise.resolve();
		clock.advance(clock.nextInMs() ?? 0);
	}
}

test('retries what is transient, and gives the rest on', async () => {
	const clock = new VirtualClock();
	const backoff = () => new Backoff({ baseMs: 10, maxMs: 100 }, always(1));
	let calls = 0;
	const flaky = async () => {
		calls += 1;
		if (calls < 4) throw new Error('again');
		return 'done';
	};
	const result = retry(clock, backoff(), flaky, () => true, new AbortController().signal);
	await settle(clock, result);
	expect([await result, calls, clock.monotonic()]).toEqual(['done', 4, 70]);
	calls = 0;
	await expect(retry(clock, backoff(), flaky, () => false, new AbortController().signal)).rejects.toThrow('again');
	expect(calls).toBe(1);
});

test('an abort ends the waiting with the last error', async () => {
	const clock = new VirtualClock();
	const controller = new AbortController();
	const result = retry(
		clock,
		new Backoff({ baseMs: 1e6, maxMs: 1e6 }, always(1)),
		() => Promise.reject(new Error('last')),
		() => true,
		controller.signal,
	);
	controller.abort();
	await expect(result).rejects.toThrow('last');
	expect(clock.pending).toBe(0);
});
