import { expect, test } from 'vitest';
import { systemClock, yieldTurn } from '../../../kit/clock.ts';
import { systemRng } from '../../../kit/ids.ts';
import { type Logger, silentLogger } from '../../../kit/log.ts';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import { Sender } from './sender.ts';

test('refusals go on being logged, at most each ten minutes, with how many there were', async () => {
	const clock = new VirtualClock();
	const warned: unknown[] = [];
	const log: Logger = { ...silentLogger, warn: (_message, fields) => void warned.push(fields) };
	let left = 200;
	const queue = {
		records: 0,
		peek: async () => (left > 0 ? Buffer.from('x') : undefined),
		take: async () => {
			left -= 1;
		},
	};
	const post = async () => {
		clock.advance(6000);
		return { status: 400, retryAfterMs: 0, text: 'out of order sample' };
	};
	const stop = new AbortController();
	const sender = new Sender({ clock, rng: systemRng, log, name: 'remote-write', queue, post });
	const running = sender.run(stop.signal);
	while (left > 0) await Promise.resolve();
	stop.abort();
	await running;
	expect(sender.counts.refused).toBe(200);
	expect(warned).toMatchObject([{ requests: 1 }, { requests: 100, status: 400, answer: 'out of order sample' }]);
});

test('what its receiver is too busy or away for is sent again, when it asked for that, and what it refuses is not', async () => {
	const clock = new VirtualClock();
	const waiting = ['busy', 'refused', 'well'];
	const posted: { readonly text: string; readonly atMs: number; readonly waiting: number }[] = [];
	const answers: (number | undefined)[] = [429, 503, 408, undefined, 200, 400, 204];
	const queue = {
		records: 0,
		peek: async () => (waiting[0] === undefined ? undefined : Buffer.from(waiting[0])),
		take: async () => void waiting.shift(),
	};
	const post = async (body: Uint8Array) => {
		posted.push({ text: Buffer.from(body).toString(), atMs: clock.monotonic(), waiting: waiting.length });
		const status = answers.shift();
		if (status === undefined) throw new Error('no answer');
		return { status, retryAfterMs: status === 429 ? 100_000 : 0, text: '' };
	};
	const stop = new AbortController();
	const sender = new Sender({ clock, rng: systemRng, log: silentLogger, name: 'remote-write', queue, post });
	const running = sender.run(stop.signal);
	for (let second = 0; second < 1000 && waiting.length > 0; second += 1) {
		clock.advance(1000);
		await yieldTurn(systemClock);
	}
	stop.abort();
	await running;
	// Each stays in the queue until its receiver has it, or never will.
	expect(posted.map(({ text, waiting: left }) => [text, left])).toEqual([
		...Array.from({ length: 5 }, () => ['busy', 3]),
		['refused', 2],
		['well', 1],
	]);
	expect((posted[1]?.atMs ?? 0) - (posted[0]?.atMs ?? 0)).toBeGreaterThanOrEqual(100_000);
	expect(sender.counts).toEqual({ sent: 2, refused: 1, retried: 4 });
});

test('a disk that fails for a while ends nothing: it is said once, and the rest is sent', async () => {
	const clock = new VirtualClock();
	const errors: string[] = [];
	const log: Logger = { ...silentLogger, error: (message) => void errors.push(message) };
	const waiting = ['first', 'second', 'third'];
	let failures = 0;
	const fail = () => {
		failures += 1;
		throw new Error('ENOSPC: no space left on device');
	};
	const queue = {
		records: 0,
		peek: async () => (failures === 1 ? fail() : waiting[0] === undefined ? undefined : Buffer.from(waiting[0])),
		// As a queue does: it is taken off, and where a restart goes on is not kept.
		take: async () => {
			waiting.shift();
			if (failures === 0) fail();
		},
	};
	const posted: string[] = [];
	const post = async (body: Uint8Array) => {
		posted.push(Buffer.from(body).toString());
		return { status: 200, retryAfterMs: 0, text: '' };
	};
	const stop = new AbortController();
	const sender = new Sender({ clock, rng: systemRng, log, name: 'remote-write', queue, post });
	const running = sender.run(stop.signal);
	for (let second = 0; second < 1000 && waiting.length > 0; second += 1) {
		clock.advance(1000);
		await yieldTurn(systemClock);
	}
	stop.abort();
	await running;
	expect(posted).toEqual(['first', 'second', 'third']);
	expect([failures, errors.length]).toEqual([2, 1]);
});
