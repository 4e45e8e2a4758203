import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient, createRouterTransport } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import {
	AttachMode,
	type AttachTerminalRequest,
	type AttachTerminalResponseSchema,
	TerminalService,
} from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import type { Api } from '../client.ts';
import { testIo } from '../test-io.ts';
import { attachTo } from './session.ts';

test('a paste waits at our own terminal while the node takes nothing, and arrives whole', async () => {
	const pasted = ['x'.repeat(64 * 1024), 'A'.repeat(4096), 'B'.repeat(100)];
	const whole = pasted.join('');
	const came = Promise.withResolvers<void>();
	const taken = Promise.withResolvers<void>();
	let got = '';
	async function* attachTerminal(
		requests: AsyncIterable<AttachTerminalRequest>,
	): AsyncGenerator<MessageInitShape<typeof AttachTerminalResponseSchema>> {
		for await (const { message } of requests) {
			if (message.case === 'attach') yield { message: { case: 'attached' as const, value: {} } };
			if (message.case !== 'input') continue;
			got += Buffer.from(message.value.data).toString();
			came.resolve();
			await taken.promise;
			yield { message: { case: 'ack' as const, value: { offset: BigInt(got.length) } } };
			if (got.length === whole.length) break;
		}
		yield { message: { case: 'end' as const, value: { reason: 'TERMINAL_EXITED', exitCode: 3 } } };
	}
	const transport = createRouterTransport(({ service }) => service(TerminalService, { attachTerminal }));
	const api = { client: () => createClient(TerminalService, transport) } as unknown as Api;
	const stdin = new PassThrough();
	const io = { ...testIo(), stdin };
	const terminal = { id: 'one', nodeName: 'node', tty: true };
	const attached = attachTo(io, api, terminal, { mode: AttachMode.CONTROL, readsStdin: true });
	stdin.write(pasted[0]);
	await came.promise;
	expect(stdin.isPaused()).toBe(false);
	const paused = once(stdin, 'pause');
	stdin.write(pasted[1]);
	await paused;
	stdin.write(pasted[2]);
	taken.resolve();
	expect(await attached).toBe(3);
	expect(got === whole).toBe(true);
	expect(stdin.isPaused()).toBe(true);
});

test('whoever pasted more than may wait leaves all the same, whether the program takes nothing or nobody answers', async () => {
	for (const isThere of [true, false]) {
		let attaches = 0;
		const came = Promise.withResolvers<void>();
		async function* attachTerminal(
			requests: AsyncIterable<AttachTerminalRequest>,
		): AsyncGenerator<MessageInitShape<typeof AttachTerminalResponseSchema>> {
			attaches += 1;
			if (attaches > 1) throw new ConnectError('nobody answers', Code.Unavailable);
			for await (const { message } of requests) {
				if (message.case === 'attach') yield { message: { case: 'attached' as const, value: {} } };
				if (message.case !== 'input') continue;
				came.resolve();
				if (!isThere) throw new ConnectError('it went away', Code.Unavailable);
			}
		}
		const transport = createRouterTransport(({ service }) => service(TerminalService, { attachTerminal }));
		const api = { client: () => createClient(TerminalService, transport) } as unknown as Api;
		const stdin = Object.assign(new PassThrough(), { isTTY: true });
		const io = { ...testIo(), stdin };
		const terminal = { id: 'one', nodeName: 'node', tty: true };
		const attached = attachTo(io, api, terminal, { mode: AttachMode.CONTROL, readsStdin: true });
		stdin.write('x'.repeat(64 * 1024));
		await came.promise;
		for (let mib = 0; mib < 6; mib += 1) stdin.write('y'.repeat(1024 * 1024));
		stdin.write('\r~d');
		expect(await attached).toBe(0);
		// What can't wait is said, once.
		expect(io.err().split('more was typed').length).toBe(2);
	}
});
