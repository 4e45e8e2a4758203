import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
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
	await expect.poll(() => opened).toBe(2);
	await listener[Symbol.asyncDispose]();
	await Promise.all(closed);
	up.end();
	down.end();
	await running;
});

test('an address that cannot be listened on says what is wrong with it, and what to do', async () => {
	const [up, down] = [new PassThrough(), new PassThrough()];
	const mux = new Mux({ pipe: streamPipe(up, down) });
	const taken = createServer();
	await once(taken.listen(0, '127.0.0.1'), 'listening');
	const { port } = taken.address() as AddressInfo;
	const listen = (address: { readonly host: string; readonly port: number }) => listenFor(mux, address, () => {});
	await expect(listen({ host: '127.0.0.1', port })).rejects.toMatchObject({
		code: 'ALREADY_EXISTS',
		message: expect.stringMatching(/is in use here; choose another port, 0 for any free one$/),
	});
	// TEST-NET-1 (RFC 5737): no machine has it.
	await expect(listen({ host: '192.0.2.1', port: 0 })).rejects.toMatchObject({
		code: 'FAILED_PRECONDITION',
		message: expect.stringMatching(/no such address \(EADDRNOTAVAIL\); choose another --bind/),
	});
	taken.close();
});
