import type { MessageInitShape } from '@bufbuild/protobuf';
import { createClient, createRouterTransport } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import {
	AttachMode,
	type AttachTerminalRequest,
	type AttachTerminalResponseSchema,
	TerminalService,
} from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { testIo } from '../test-io.ts';
import { ChannelClient } from './channel-client.ts';

const MAX = 2 * 1024 * 1024;

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
