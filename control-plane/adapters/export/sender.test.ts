import { expect, test } from 'vitest';
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
