import { once } from 'node:events';
import { connect } from 'node:net';
import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { Mux } from '../../channel/mux.ts';
import { streamPipe } from '../../channel/pipe.ts';
import { listenFor } from './listener.ts';

test('disposing ends the connections that are open, bridged or not', async () => {
	const [up, down] = [new PassThrough(), new PassThrough()];
	let opened = 0;
	const node = new Mux({
		pipe: streamPipe(up, down),
		accept: async () => {
			opened += 1;
			// The first stays open and says nothing, the second is never answered.
			return opened === 1 ? { start: () => {} } : await new Promise<never>(() => {});
		},
	});
	const mux = new Mux({ pipe: streamPipe(down, up) });
	const running = Promise.allSettled([node.run(), mux.run()]);
	const listener = await listenFor(mux, { host: '127.0.0.1', port: 0 }, () => {});
	const people = [1, 2].map(() => connect({ port: listener.port, host: '127.0.0.1' }));
	const closed = people.map((socket) => {
		socket.on('error', () => {});
		return new Promise((resolve) => socket.once('close', resolve));
	});
	await Promise.all(people.map((socket) => once(socket, 'connect')));
	await expect.poll(() => opened, { timeout: 20_000 }).toBe(2);
	await listener[Symbol.asyncDispose]();
	await Promise.all(closed);
	up.end();
	down.end();
	await running;
}, 30_000);
