import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient, createRouterTransport } from '@connectrpc/connect';
import { expect, test } from 'vitest';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { type ChannelEndSchema, Stream } from '../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import {
	AttachMode,
	type AttachTerminalRequest,
	type AttachTerminalResponseSchema,
	TerminalService,
} from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import type { Api } from '../client.ts';
import { Interruption, type Io, READER_LEFT } from '../io.ts';
import { testIo } from '../test-io.ts';
import { type AttachOptions, attachTo } from './session.ts';

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

/** A control plane with one program: what was asked of it, and the answers of `program` to it. */
function oneProgram(io: Pick<Io, 'clock'>, program: (asked: string) => ReturnType<typeof ended> | undefined) {
	const asked: string[] = [];
	const endings = Promise.withResolvers<ReturnType<typeof ended>>();
	const ask = (what: string) => {
		asked.push(what);
		const end = program(what);
		if (end !== undefined) endings.resolve(end);
	};
	async function* attachTerminal(
		requests: AsyncIterable<AttachTerminalRequest>,
	): AsyncGenerator<MessageInitShape<typeof AttachTerminalResponseSchema>> {
		void (async () => {
			for await (const { message } of requests) ask(message.case === 'signal' ? message.value.name : `${message.case}`);
		})().catch(() => {});
		yield { message: { case: 'attached' as const, value: {} } };
		yield { message: await endings.promise };
	}
	const killTerminal = () => {
		ask('kill');
		return {};
	};
	const transport = createRouterTransport(({ service }) => service(TerminalService, { attachTerminal, killTerminal }));
	const api = { client: () => createClient(TerminalService, transport) } as unknown as Api;
	const attach = (options: Partial<AttachOptions> = {}) =>
		attachTo(
			{ ...testIo(), ...io },
			api,
			{ id: 'one', nodeName: 'node', tty: false },
			{ mode: AttachMode.CONTROL, readsStdin: false, ...options },
		);
	return { asked, attach };
}

const ended = (value: MessageInitShape<typeof ChannelEndSchema>) => ({
	case: 'end' as const,
	value,
});

test('Ctrl-C before the program could be reached gets to it', async () => {
	const interrupt = AbortSignal.abort();
	const { asked, attach } = oneProgram({ ...testIo(), interrupt } as Io, (what) =>
		what === 'INT' ? ended({ reason: 'TERMINAL_EXITED', signal: 2 }) : undefined,
	);
	expect(await attach()).toBe(130);
	expect(asked).toContain('INT');
});

test.each([
	['TERM', 15],
	['HUP', 1],
	['QUIT', 3],
] as const)('SIG%s gets to the program as what it is', async (name, signal) => {
	const interrupt = AbortSignal.abort(new Interruption(name));
	const { asked, attach } = oneProgram({ ...testIo(), interrupt } as Io, (what) =>
		what === name ? ended({ reason: 'TERMINAL_EXITED', signal }) : undefined,
	);
	expect(await attach({ endsWithReader: true })).toBe(128 + signal);
	expect(asked.filter((what) => /^[A-Z]+$/.test(what))).toEqual([name]);
});

test('a program that does not end upon SIGTERM is ended when its grace is over, and not before', async () => {
	const clock = new VirtualClock();
	const interrupt = AbortSignal.abort(new Interruption('TERM'));
	let graceMs: number | undefined;
	const { asked, attach } = oneProgram({ ...testIo(), clock, interrupt } as Io, (what) => {
		if (what === 'TERM') {
			graceMs = clock.nextInMs();
			clock.advance(graceMs ?? 0);
		}
		return what === 'kill' ? ended({ reason: 'TERMINAL_KILLED' }) : undefined;
	});
	expect(await attach({ endsWithReader: true })).toBe(143);
	expect(asked).toContain('kill');
	expect(graceMs).toBe(5000);
});

test('a second SIGTERM ends it at once, a second Ctrl-C leaves it running', async () => {
	for (const [name, code] of [
		['TERM', 143],
		['INT', 130],
	] as const) {
		const force = new AbortController();
		const interrupt = AbortSignal.abort(new Interruption(name));
		const io = { ...testIo(), clock: new VirtualClock(), interrupt, force: force.signal } as Io;
		const { asked, attach } = oneProgram(io, (what) => {
			if (what === name) force.abort(new Interruption(name));
			return what === 'kill' ? ended({ reason: 'TERMINAL_KILLED' }) : undefined;
		});
		expect(await attach({ endsWithReader: true })).toBe(code);
		expect(asked.includes('kill')).toBe(name === 'TERM');
	}
});

test('SIGTERM to whoever only attached leaves the program as it is', async () => {
	const interrupt = AbortSignal.abort(new Interruption('TERM'));
	const { asked, attach } = oneProgram({ ...testIo(), interrupt } as Io, () => undefined);
	expect(await attach()).toBe(143);
	expect(asked).not.toContain('TERM');
	expect(asked).not.toContain('kill');
});

test('a program that nobody reads any more is ended where it runs, and the exit code says so', async () => {
	const interrupt = AbortSignal.abort(READER_LEFT);
	const { asked, attach } = oneProgram({ ...testIo(), interrupt } as Io, (what) =>
		what === 'kill' ? ended({ reason: 'TERMINAL_KILLED' }) : undefined,
	);
	expect(await attach({ endsWithReader: true })).toBe(141);
	expect(asked).toContain('kill');
	expect(asked).not.toContain('INT');
});

test('whoever only attached leaves a program as it is when nobody reads on', async () => {
	const interrupt = AbortSignal.abort(READER_LEFT);
	const { asked, attach } = oneProgram({ ...testIo(), interrupt } as Io, () => undefined);
	expect(await attach()).toBe(141);
	expect(asked).not.toContain('kill');
});

test.each([
	['COMMAND_NOT_FOUND', 127, 'gpuaas: not run on node: why\n'],
	['COMMAND_NOT_EXECUTABLE', 126, 'gpuaas: not run on node: why\n'],
	['CWD_MISSING', 255, 'gpuaas: not run on node: why\n'],
	['POLICY_USER', 255, 'gpuaas: not run on node: why\n'],
	['TERMINAL_KILLED', 255, 'gpuaas: the terminal on node was ended: why\n'],
])('%s ends with %i and says whether anything ran', async (reason, code, said) => {
	const io = testIo();
	const { attach } = oneProgram(io, (what) => (what === 'attach' ? ended({ reason, message: 'why' }) : undefined));
	expect(await attach()).toBe(code);
	expect(io.err()).toBe(said);
});

test.each([
	[{ reason: 'TERMINAL_EXITED', exitCode: 3 }, 3, {}],
	[{ reason: 'TERMINAL_EXITED', signal: 9 }, 137, { signal: 9 }],
	[{ reason: 'COMMAND_NOT_FOUND', message: 'why' }, 127, { message: 'why' }],
])('for a program %j is its output and one last event', async (end, code, more) => {
	const io = testIo();
	async function* attachTerminal(): AsyncGenerator<MessageInitShape<typeof AttachTerminalResponseSchema>> {
		yield { message: { case: 'attached' as const, value: {} } };
		const pieces = [
			[Stream.STDOUT, Uint8Array.of(0xff, 10)],
			[Stream.STDERR, Buffer.from('no')],
		] as const;
		for (const [stream, data] of pieces)
			yield { message: { case: 'output' as const, value: { stream, data: Uint8Array.from(data) } } };
		yield { message: ended(end) };
	}
	const transport = createRouterTransport(({ service }) => service(TerminalService, { attachTerminal }));
	const api = { client: () => createClient(TerminalService, transport) } as unknown as Api;
	const terminal = { id: 'one', nodeName: 'node', tty: false };
	const options = { mode: AttachMode.CONTROL, readsStdin: false, asEvents: true };
	expect(await attachTo(io, api, terminal, options)).toBe(code);
	const lines = io.out().trimEnd().split('\n');
	expect(lines.map((line) => JSON.parse(line))).toEqual([
		{ event: 'output', terminalId: 'one', stream: 'stdout', base64: '/wo=' },
		{ event: 'output', terminalId: 'one', stream: 'stderr', base64: 'bm8=' },
		{ event: 'ended', terminalId: 'one', exitCode: code, reason: end.reason, message: '', ...more },
	]);
	expect(io.err()).toBe('');
});
