import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../kit/clock.ts';
import { bridge } from './bridge.ts';
import { encodeFrame, FRAME_PAYLOAD_BYTES_MAX, type Frame, FrameDecoder } from './frame.ts';
import { Mux } from './mux.ts';
import { MUX_WINDOW_BYTES } from './mux-channel.ts';
import { streamPipe } from './pipe.ts';
import { decodeRefusal, encodeRefusal } from './refusal.ts';

const open: (Server | Socket)[] = [];
afterEach(() => {
	for (const each of open.splice(0)) {
		if ('destroy' in each) each.destroy();
		else each.close();
	}
});

/** A service behind a mux pair: each channel is a connection to `serve`, as `forward` makes them. */
async function forwarded(
	serve: (socket: Socket) => void,
	channelsMax = 256,
	onDialled: (socket: Socket) => void = () => {},
) {
	const up = new PassThrough();
	const down = new PassThrough();
	const service = createServer({ allowHalfOpen: true }, (socket) => {
		socket.on('error', () => {});
		serve(socket);
	}).listen(0, '127.0.0.1');
	open.push(service);
	await once(service, 'listening');
	const port = (service.address() as { port: number }).port;
	const node = new Mux({
		pipe: streamPipe(up, down),
		channelsMax,
		async accept(channel) {
			const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
			open.push(socket);
			await once(socket, 'connect');
			onDialled(socket);
			return { start: () => void bridge(socket, channel) };
		},
	});
	const client = new Mux({ pipe: streamPipe(down, up) });
	const running = Promise.allSettled([node.run().finally(() => down.end()), client.run()]);
	const front = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
		client.open().then(
			(channel) => {
				void bridge(socket, channel);
				socket.resume();
			},
			() => socket.resetAndDestroy(),
		);
	}).listen(0, '127.0.0.1');
	open.push(front);
	await once(front, 'listening');
	const dial = async () => {
		const socket = connect({
			port: (front.address() as { port: number }).port,
			host: '127.0.0.1',
			allowHalfOpen: true,
		});
		open.push(socket);
		await once(socket, 'connect');
		return socket;
	};
	return { dial, node, client, up, down, running };
}

async function all(socket: Socket): Promise<Buffer> {
	const chunks: Buffer[] = [];
	for await (const chunk of socket) chunks.push(chunk as Buffer);
	return Buffer.concat(chunks);
}

describe('frames', () => {
	test('come out as they went in, however the stream is cut', () => {
		const frame = fc.record({
			type: fc.nat(255),
			channel: fc.nat(2 ** 32 - 1),
			payload: fc.uint8Array({ maxLength: 2000 }),
		});
		fc.assert(
			fc.property(fc.array(frame, { maxLength: 8 }), fc.integer({ min: 1, max: 700 }), (frames, step) => {
				const bytes = Buffer.concat(frames.map(({ type, channel, payload }) => encodeFrame(type, channel, payload)));
				const decoder = new FrameDecoder();
				const seen: Frame[] = [];
				for (let at = 0; at < bytes.length; at += step)
					for (const { type, channel, payload } of decoder.push(bytes.subarray(at, at + step)))
						seen.push({ type, channel, payload: new Uint8Array(payload) });
				expect(seen).toEqual(frames);
				expect(decoder.isEmpty).toBe(true);
			}),
		);
	});

	test('a length that is not ours ends it before anything is gathered', () => {
		const header = Buffer.alloc(9);
		header.writeUInt32BE(FRAME_PAYLOAD_BYTES_MAX + 1, 5);
		expect(() => [...new FrameDecoder().push(header)]).toThrow(/broke the protocol/);
	});

	test('no bytes whatsoever make the decoder do anything but give frames or refuse', () => {
		fc.assert(
			fc.property(fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 10 }), (chunks) => {
				const decoder = new FrameDecoder();
				try {
					for (const chunk of chunks)
						for (const { payload } of decoder.push(chunk)) expect(payload.length).toBeLessThan(640);
				} catch (error) {
					expect(error).toMatchObject({ reason: 'CHANNEL_PROTOCOL' });
				}
			}),
		);
	});

	test('a refusal is read from anything', () => {
		fc.assert(fc.property(fc.uint8Array(), (bytes) => /^[A-Z]/.test(decodeRefusal(bytes).reason)));
		const refusal = { reason: 'FILE_EXISTS', message: 'it is there' };
		expect(decodeRefusal(encodeRefusal(refusal))).toEqual(refusal);
		expect(decodeRefusal(Buffer.from('{"reason":"no such \\u001b[31m","message":"x"}')).reason).toBe(
			'CHANNEL_PROTOCOL',
		);
	});
});

describe('a mux', () => {
	test('carries many connections at once, both ways, with their ends', async () => {
		const { dial } = await forwarded((socket) => socket.pipe(socket));
		await Promise.all(
			Array.from({ length: 40 }, async (_, index) => {
				const socket = await dial();
				const sent = Buffer.alloc(300_000 + index, index);
				socket.end(sent);
				expect((await all(socket)).equals(sent)).toBe(true);
			}),
		);
	});

	test('a reader that stands still holds up nobody else, and costs at most its windows', async () => {
		let isStuckSent = 0;
		const { dial } = await forwarded((socket) => {
			socket.once('data', (kind) => {
				if (kind.toString() !== 'flood') return void socket.end('quick');
				const chunk = Buffer.alloc(64 * 1024);
				const flood = () => {
					while (!socket.destroyed && socket.write(chunk)) isStuckSent += chunk.length;
				};
				socket.on('drain', flood).on('error', () => {});
				flood();
			});
		});
		const stuck = await dial();
		stuck.pause();
		stuck.write('flood');
		let last = -1;
		for (let stableRounds = 0; stableRounds < 8; ) {
			stableRounds = last === isStuckSent && last > 0 ? stableRounds + 1 : 0;
			last = isStuckSent;
			const socket = await dial();
			socket.write('x');
			expect((await all(socket)).toString()).toBe('quick');
			socket.end();
		}
		// The windows of the mux, and what the kernel's sockets hold by themselves.
		expect(isStuckSent).toBeLessThan(32 * 1024 * 1024);
	});

	test('half-close passes through: an answer after the end of the question', async () => {
		const { dial } = await forwarded((socket) => {
			all(socket).then((question) => socket.end(`${question.length}`));
		});
		const socket = await dial();
		socket.end(Buffer.alloc(1_000_000));
		expect((await all(socket)).toString()).toBe('1000000');
	});

	test('the last of an answer waits for its reader, also once both ends of the connection are over', async () => {
		const answerBytes = MUX_WINDOW_BYTES + 1;
		const gone = Promise.withResolvers<void>();
		const { client } = await forwarded(
			(socket) => {
				all(socket).then(() => socket.end(Buffer.alloc(answerBytes)));
			},
			256,
			(socket) => socket.once('close', gone.resolve),
		);
		const channel = await client.open();
		const came: number[] = [];
		const last = Promise.withResolvers<string>();
		let isReading = false;
		channel.listen((event) => {
			if (event.kind !== 'data') last.resolve(event.kind);
			else if (came.push(event.bytes.length) > 0 && isReading) channel.consumed(event.bytes.length);
		});
		await channel.end();
		await gone.promise;
		isReading = true;
		for (const bytes of came.slice()) channel.consumed(bytes);
		expect(await last.promise).toBe('end');
		expect(came.reduce((sum, bytes) => sum + bytes, 0)).toBe(answerBytes);
		expect(client.channelCount).toBe(0);
	});

	test('a reset passes through, in both directions', async () => {
		const gone = Promise.withResolvers<string>();
		const { dial, client } = await forwarded((socket) => {
			socket.on('error', ({ message }) => gone.resolve(message));
			socket.once('data', (kind) => {
				if (kind.toString() === 'reset me') socket.resetAndDestroy();
			});
		});
		const first = await dial();
		first.write('reset me');
		const [error] = (await once(first, 'error')) as [NodeJS.ErrnoException];
		expect(error.code).toBe('ECONNRESET');
		const second = await dial();
		second.write('wait');
		second.resetAndDestroy();
		expect(await gone.promise).toMatch(/ECONNRESET/);
		while (client.channelCount > 0) await new Promise<void>((resolve) => systemClock.defer(resolve));
	});

	test('one more than its limit is refused', async () => {
		const { dial, client } = await forwarded((socket) => socket.pipe(socket), 2);
		for (let index = 0; index < 2; index += 1) {
			const socket = await dial();
			socket.write('x');
			await once(socket, 'data');
		}
		await expect(client.open()).rejects.toMatchObject({ reason: 'RATE_LIMITED' });
	});

	test('a connection that was given up while it was made counts until its making has ended, and is told to end', async () => {
		const up = new PassThrough();
		const down = new PassThrough();
		const dials: { readonly gone: AbortSignal; answer(): void }[] = [];
		const started: number[] = [];
		const node = new Mux({
			pipe: streamPipe(up, down),
			channelsMax: 3,
			accept: ({ id }, gone) =>
				new Promise((resolve) => {
					dials.push({ gone, answer: () => resolve({ start: () => void started.push(id) }) });
				}),
		});
		const answers = down[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
		const running = node.run();
		const answered = async () => {
			const { value } = await answers.next();
			return [...new FrameDecoder().push(value as Buffer)].map(({ type, channel }) => [type, channel]);
		};
		// Open and reset, without a wait.
		for (let id = 1; id <= 4; id += 1) {
			up.write(encodeFrame(1, id));
			up.write(encodeFrame(7, id));
		}
		// The fourth is refused: none of the three has ended.
		expect(await answered()).toEqual([[3, 4]]);
		expect([dials.length, dials.map(({ gone }) => gone.aborted), node.channelCount]).toEqual([
			3,
			[true, true, true],
			3,
		]);
		for (const { answer } of dials) answer();
		while (node.channelCount > 0) await new Promise<void>((resolve) => systemClock.defer(resolve));
		// What each had made by then is given to it, to be closed; nobody is told of it.
		expect(started).toEqual([1, 2, 3]);
		up.write(encodeFrame(1, 5));
		while (dials.length < 4) await new Promise<void>((resolve) => systemClock.defer(resolve));
		dials[3]?.answer();
		expect(await answered()).toEqual([[2, 5]]);
		up.write(encodeFrame(1, 6));
		while (dials.length < 5) await new Promise<void>((resolve) => systemClock.defer(resolve));
		up.end();
		await running;
		expect([dials[4]?.gone.aborted, node.channelCount]).toEqual([true, 0]);
	});

	test('a connection whose acceptance fails unexpectedly ends alone, and tells nothing of this machine', async () => {
		const up = new PassThrough();
		const down = new PassThrough();
		const accepts = [
			() => Promise.reject(new Error('EMFILE at 10.0.0.1')),
			() =>
				Promise.resolve({
					start: () => {
						throw new Error('the socket is gone');
					},
				}),
			() => Promise.resolve({ start: () => {} }),
		];
		const node = new Mux({
			pipe: streamPipe(up, down),
			accept: () => accepts.shift()?.() ?? Promise.reject(new Error('no more')),
		});
		const client = new Mux({ pipe: streamPipe(down, up) });
		const running = Promise.allSettled([node.run().finally(() => down.end()), client.run()]);
		await expect(client.open()).rejects.toMatchObject({
			reason: 'INTERNAL',
			message: expect.not.stringContaining('10.0.0.1'),
		});
		const second = await client.open();
		const reset = Promise.withResolvers<string>();
		second.listen(({ kind }) => reset.resolve(kind));
		expect(await reset.promise).toBe('reset');
		await client.open();
		expect([client.channelCount, node.channelCount]).toEqual([1, 1]);
		up.destroy();
		expect(await running).toHaveLength(2);
	});

	test('when the pipe ends every connection is reset and nothing is left', async () => {
		const { dial, up, client, node, running } = await forwarded((socket) => socket.pipe(socket));
		const socket = await dial();
		socket.write('x');
		await once(socket, 'data');
		const reset = once(socket, 'error');
		up.destroy();
		client.open().catch(() => {});
		await reset;
		await running;
		expect([client.channelCount, node.channelCount]).toEqual([0, 0]);
	});

	test.each([
		[
			'data beyond the window',
			(id: number) => Array.from({ length: 9 }, () => encodeFrame(4, id, Buffer.alloc(32 * 1024))),
		],
		['a frame of a channel that was never opened', (id: number) => [encodeFrame(4, id + 5, Buffer.alloc(1))]],
		['credit without end', (id: number) => [encodeFrame(5, id, Buffer.alloc(4, 0xff))]],
		['a type that is none', (id: number) => [encodeFrame(99, id)]],
		['an open from the wrong side', (id: number) => [encodeFrame(1, id + 1)]],
	])('%s ends it', async (_, frames) => {
		const up = new PassThrough();
		const down = new PassThrough();
		up.resume();
		const client = new Mux({ pipe: streamPipe(down, up) });
		const ran = client.run();
		const opened = client.open();
		down.write(encodeFrame(2, 1));
		await opened;
		for (const frame of frames(1)) down.write(frame);
		await expect(ran).rejects.toMatchObject({ reason: 'CHANNEL_PROTOCOL' });
		expect(client.channelCount).toBe(0);
	});
});
