import type { MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient, createRouterTransport } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { COPY_FRAME, CopyLink } from '../../channel/copy-frames.ts';
import { encodeFrame } from '../../channel/frame.ts';
import { encodeRefusal } from '../../channel/refusal.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { Stream } from '../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import {
	AttachMode,
	type AttachTerminalRequest,
	type AttachTerminalResponseSchema,
	TerminalService,
} from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import type { Api } from '../client.ts';
import { testIo } from '../test-io.ts';
import { ChannelClient } from './channel-client.ts';
import { openChannelPipe } from './channel-pipe.ts';

const MAX = 2 * 1024 * 1024;
const PATIENT = { timeout: 20_000 };

test('never more than the window is on its way, also where a whole frame does not fit any more', async () => {
	let [received, acked, worst] = [0, 0, 0];
	async function* attachTerminal(
		requests: AsyncIterable<AttachTerminalRequest>,
	): AsyncGenerator<MessageInitShape<typeof AttachTerminalResponseSchema>> {
		for await (const { message } of requests) {
			if (message.case === 'attach') yield { message: { case: 'attached' as const, value: {} } };
			if (message.case === 'input') {
				received += message.value.data.length;
				worst = Math.max(worst, received - acked);
				if (message.value.end) {
					yield { message: { case: 'end' as const, value: { reason: 'TERMINAL_EXITED' } } };
					return;
				}
				if (received - acked < MAX) continue;
				// Room for one byte: a frame has 65,536.
				acked += 1;
				yield { message: { case: 'ack' as const, value: { offset: BigInt(acked) } } };
				yield { message: { case: 'notice' as const, value: { message: 'one byte was taken' } } };
			}
			if (message.case === 'resize') {
				acked = received;
				yield { message: { case: 'ack' as const, value: { offset: BigInt(acked) } } };
			}
		}
	}
	const io = testIo();
	const transport = createRouterTransport(({ service }) => service(TerminalService, { attachTerminal }));
	const client: ChannelClient = new ChannelClient(
		io,
		createClient(TerminalService, transport),
		{ terminalId: 'one', mode: AttachMode.CONTROL, tty: false },
		{
			output: async () => {},
			// Behind what the acknowledgement let go, in the same stream.
			notice: () => io.clock.defer(() => client.resize({ columns: 1, rows: 1 })),
		},
	);
	const running = client.run(new AbortController().signal);
	await client.write(new Uint8Array(3 * MAX + 7));
	await client.write(new Uint8Array(), true);
	expect(await running).toMatchObject({ kind: 'ended' });
	expect({ received, worst }).toEqual({ received: 3 * MAX + 7, worst: MAX });
});

type Answers = AsyncGenerator<MessageInitShape<typeof AttachTerminalResponseSchema>>;
type Answer = (requests: AsyncIterable<AttachTerminalRequest>) => Answers;

function terminalService(attachTerminal: Answer) {
	return createClient(
		TerminalService,
		createRouterTransport(({ service }) => service(TerminalService, { attachTerminal })),
	);
}

function clientOf(attachTerminal: Answer, tty: boolean): ChannelClient {
	const options = { terminalId: 'one', mode: AttachMode.CONTROL, tty };
	return new ChannelClient(testIo(), terminalService(attachTerminal), options, { output: async () => {} });
}

const ATTACHED = { message: { case: 'attached' as const, value: {} } };
const ENDED = { message: { case: 'end' as const, value: { reason: 'TERMINAL_EXITED', signal: 9 } } };

/** Takes nothing of what it is sent, and then says its last. */
function fullThen(last: () => Answers): Answer {
	return async function* (requests) {
		let received = 0;
		for await (const { message } of requests) {
			if (message.case === 'attach') yield ATTACHED;
			if (message.case !== 'input') continue;
			received += message.value.data.length;
			if (MAX - received < 64 * 1024) break;
		}
		yield* last();
	};
}

test('a flood is acknowledged once a window, what follows a little later, and a few bytes not at all', async () => {
	const WINDOW = 100_000;
	const clock = new VirtualClock();
	const acks: number[] = [];
	const sent = { next: Promise.withResolvers<number>(), offset: 0 };
	const service = terminalService(async function* (requests) {
		void (async () => {
			for await (const { message } of requests) if (message.case === 'ack') acks.push(Number(message.value.offset));
		})();
		yield ATTACHED;
		for (;;) {
			const bytes = await sent.next.promise;
			sent.next = Promise.withResolvers();
			if (bytes === 0) break;
			const value = { stream: Stream.STDOUT, offset: BigInt(sent.offset), data: new Uint8Array(bytes) };
			yield { message: { case: 'output' as const, value } };
			sent.offset += bytes;
		}
		yield ENDED;
	});
	let shown = 0;
	const options = { terminalId: 'one', mode: AttachMode.CONTROL, tty: true };
	const client = new ChannelClient({ ...testIo(), clock }, service, options, {
		output: async (_stream, data) => {
			shown += data.length;
		},
	});
	const running = client.run(new AbortController().signal);
	const show = async (bytes: number) => {
		const until = shown + bytes;
		sent.next.resolve(bytes);
		await expect.poll(() => shown, PATIENT).toBe(until);
		return [...acks];
	};
	expect(await show(40_000)).toEqual([]);
	expect(await show(WINDOW - 40_001)).toEqual([]);
	await show(1);
	await expect.poll(() => acks, PATIENT).toEqual([WINDOW]);
	// What was due for the first of it is told with all of it.
	clock.advance(1000);
	expect(await show(4095)).toEqual([WINDOW]);
	clock.advance(1000);
	expect(await show(1)).toEqual([WINDOW]);
	clock.advance(9);
	expect(await show(2)).toEqual([WINDOW]);
	clock.advance(1);
	await expect.poll(() => acks, PATIENT).toEqual([WINDOW, WINDOW + 4098]);
	sent.next.resolve(0);
	await running;
});

test('what is pasted arrives in its order, also where a piece has to wait for room', async () => {
	const typed = ['x'.repeat(62 * 1024), 'A'.repeat(4096), 'B'.repeat(100)];
	const whole = typed.join('');
	let got = '';
	const client = clientOf(async function* (requests) {
		for await (const { message } of requests) {
			if (message.case === 'attach') yield ATTACHED;
			if (message.case !== 'input') continue;
			got += Buffer.from(message.value.data).toString();
			yield { message: { case: 'ack' as const, value: { offset: BigInt(got.length) } } };
			if (got.length === whole.length) break;
		}
		yield ENDED;
	}, true);
	const running = client.run(new AbortController().signal);
	await Promise.all(typed.map((text) => client.write(Buffer.from(text))));
	await running;
	expect(got === whole).toBe(true);
});

test('whoever waits for room is told why there will be none', async () => {
	const refused = clientOf(
		fullThen(async function* () {
			throw new ConnectError('not you', Code.PermissionDenied);
		}),
		false,
	);
	const running = refused.run(new AbortController().signal);
	await expect(refused.write(new Uint8Array(2 * MAX))).rejects.toMatchObject({ code: Code.PermissionDenied });
	await expect(running).rejects.toMatchObject({ code: Code.PermissionDenied });

	const leave = new AbortController();
	const left = clientOf(
		fullThen(async function* () {
			leave.abort();
			yield ENDED;
		}),
		false,
	);
	const leaving = left.run(leave.signal);
	await expect(left.write(new Uint8Array(2 * MAX))).rejects.toThrow();
	await leaving;
	await expect(left.write(new Uint8Array(1))).rejects.toThrow();
});

test('nothing is taken any more for a program that has ended', async () => {
	const client = clientOf(
		fullThen(async function* () {
			yield ENDED;
		}),
		false,
	);
	const running = client.run(new AbortController().signal);
	await expect(client.write(new Uint8Array(2 * MAX))).rejects.toMatchObject({ reason: 'TERMINAL_EXITED' });
	await running;
	await expect(client.write(new Uint8Array(1))).rejects.toMatchObject({ reason: 'TERMINAL_EXITED' });
});

test('an upload ends with its program, and says why where that was said', async () => {
	const link = async (last: () => Answers) => {
		const api = { client: () => terminalService(fullThen(last)) } as unknown as Api;
		await using channel = openChannelPipe(testIo(), api, { id: 'one', nodeName: 'gpu-07' });
		const copy = new CopyLink(channel.pipe);
		for (;;) await copy.sendData(new Uint8Array(64 * 1024));
	};
	const killed = link(async function* () {
		yield ENDED;
	});
	await expect(killed).rejects.toMatchObject({ reason: 'COPY_INTERRUPTED' });
	const full = link(async function* () {
		const data = encodeFrame(COPY_FRAME.refused, 0, encodeRefusal({ reason: 'DISK_FULL', message: 'no room' }));
		yield { message: { case: 'output' as const, value: { stream: Stream.STDOUT, data: Buffer.from(data) } } };
		yield ENDED;
	});
	await expect(full).rejects.toMatchObject({ message: 'no room' });
});

test('whoever copies or forwards reads that the node is away', async () => {
	const io = testIo();
	const last = async function* (): Answers {
		yield { message: { case: 'link' as const, value: { connected: false } } };
		yield ENDED;
	};
	const api = { client: () => terminalService(fullThen(last)) } as unknown as Api;
	const channel = openChannelPipe(io, api, { id: 'one', nodeName: 'gpu-07' });
	await channel.pipe.write(new Uint8Array(2 * MAX)).catch(() => {});
	await channel.ended;
	expect(io.err()).toBe("gpuaas: gpu-07 can't be reached now; waiting\n");
});
