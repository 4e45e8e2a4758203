import { expect, it } from 'vitest';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { Exchange } from './exchange.ts';
import type { ProbeAnswer, ProbeRequest } from './protocol.ts';

function start() {
	const clock = new VirtualClock();
	const events: string[] = [];
	const sent: ProbeRequest[] = [];
	const exchange = new Exchange(
		clock,
		{ hungAfterMs: 15_000, missesMax: 3 },
		{
			onLate: (waitedMs) => events.push(`late ${waitedMs}`),
			onHung: (waitedMs) => events.push(`hung ${waitedMs}`),
			onAnswered: (tookMs, wasLate) => events.push(`answered ${tookMs} ${wasLate}`),
		},
		(request) => sent.push(request),
	);
	const results: (ProbeAnswer | undefined)[] = [];
	const ask = () =>
		void exchange.ask({ op: 'sample', slow: false, processes: false }, 2000).then((answer) => results.push(answer));
	const answer = (id: number) =>
		exchange.answered({ id, op: 'failed', fault: { code: '', message: '' } } satisfies ProbeAnswer);
	const settle = async () => {
		for (let turns = 0; turns < 5; turns += 1) await Promise.resolve();
		return results;
	};
	return { clock, events, sent, exchange, ask, answer, settle };
}

it('an answer in time is the result', async () => {
	const { clock, ask, answer, settle, events, sent } = start();
	ask();
	clock.advance(1999);
	answer(1);
	expect(await settle()).toMatchObject([{ id: 1 }]);
	expect(events).toEqual(['answered 1999 false']);
	ask();
	expect(sent.map(({ id }) => id)).toEqual([1, 2]);
});

it('a late one is told as late, and what comes after it is asked anew', async () => {
	const { clock, ask, answer, settle, events, exchange } = start();
	ask();
	clock.advance(2000);
	expect(await settle()).toEqual([undefined]);
	clock.advance(5000);
	answer(1);
	expect(events).toEqual(['late 2000', 'answered 7000 true']);
	expect([exchange.isBusy, exchange.misses]).toEqual([false, 1]);
	// Of a request that was given up: nobody's.
	answer(1);
	expect(events).toHaveLength(2);
	// Nor is it the answer to what is asked now.
	ask();
	answer(1);
	expect([events.length, exchange.isBusy]).toEqual([2, true]);
	answer(2);
	expect([events.length, exchange.isBusy]).toEqual([3, false]);
});

it('one that never comes is hung after its time, once', async () => {
	const { clock, ask, settle, events, exchange } = start();
	ask();
	clock.advance(14_999);
	expect(events).toEqual(['late 2000']);
	clock.advance(1);
	expect(events).toEqual(['late 2000', 'hung 15000']);
	clock.advance(60_000);
	expect(events).toHaveLength(2);
	expect(exchange.isBusy).toBe(false);
	expect(await settle()).toEqual([undefined]);
});

it('asking while one is under way is a miss, and three misses are hung', async () => {
	const { clock, ask, settle, events, exchange, sent } = start();
	ask();
	clock.advance(2000);
	ask();
	expect(events).toEqual(['late 2000']);
	clock.advance(1000);
	ask();
	expect(events).toEqual(['late 2000', 'hung 3000']);
	expect([exchange.misses, sent.length]).toEqual([3, 1]);
	expect(await settle()).toEqual([undefined, undefined, undefined]);
});

it('one that still has time misses nothing, however often somebody asks meanwhile', async () => {
	const { clock, ask, answer, settle, events, exchange } = start();
	void exchange.ask({ op: 'inventory' }, 10_000);
	for (let seconds = 1; seconds <= 9; seconds += 1) {
		clock.advance(1000);
		ask();
	}
	expect((await settle()).every((result) => result === undefined)).toBe(true);
	answer(1);
	expect([events, exchange.misses]).toEqual([['answered 9000 false'], 0]);
});

it('of a probe that is gone nothing comes, and no time runs on', async () => {
	const { clock, ask, settle, events, exchange } = start();
	ask();
	exchange.giveUp();
	expect(await settle()).toEqual([undefined]);
	clock.advance(60_000);
	expect(events).toEqual([]);
});
