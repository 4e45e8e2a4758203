import { once } from 'node:events';
import { connect, createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { create, toBinary } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient, type Interceptor, type Transport } from '@connectrpc/connect';
import { connectNodeAdapter, createConnectTransport, createGrpcTransport } from '@connectrpc/connect-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { withDirectStreams } from '../../cli/direct-streams.ts';
import { ApiSessions } from '../../cli/sessions.ts';
import type { Relay } from '../../control-plane/app/terminals/relay.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { END_FLAG, ENVELOPE_HEAD_BYTES } from '../../proto/envelope.ts';
import { ChannelHelloSchema } from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { Stream } from '../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import {
	AttachMode,
	type AttachTerminalRequest,
	AttachTerminalRequestSchema,
	type AttachTerminalResponse,
	TerminalService,
} from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { eventually } from '../eventually.ts';
import { ApiWorld } from './api-world.ts';
import { refusalOf } from './refusal.ts';
import { addTerminal } from './terminal-samples.ts';

/**
 * Streams in both directions have a way of their own past the framework, at both ends. What a caller sees is the same on
 * it as on the framework's: each end is tried with the framework's other end too.
 */
let world: ApiWorld;
let nodeId: string;
let operatorId: string;
beforeAll(async () => {
	world = await ApiWorld.start({ api: { requestBytesMax: 200_000 } });
	nodeId = (await world.addNode()).id;
	operatorId = (await world.client(SystemService, world.operatorKey).whoAmI({})).principalId;
});
afterAll(() => world[Symbol.asyncDispose]());

const ATTACH = '/gpuaas.terminals.v1.TerminalService/AttachTerminal';
const OPEN = { tty: false, state: 'open' as const, openedAtMs: null, closedAtMs: null, exitCode: null, reason: '' };

function bearer(key: string): Interceptor {
	return (next) => (request) => {
		if (key !== '') request.header.set('authorization', `Bearer ${key}`);
		return next(request);
	};
}

function ours(baseUrl: string, key: string, nodeOptions: object): Transport {
	const interceptors = [bearer(key)];
	const sessionManager = new ApiSessions(baseUrl, {}, nodeOptions);
	const base = createConnectTransport({ baseUrl, httpVersion: '2', sessionManager, interceptors });
	return withDirectStreams(base, sessionManager, { baseUrl, interceptors });
}

/** By who speaks: the command; a client that doesn't know of the direct way; one that the framework answers. */
function transports(key: string): readonly (readonly [string, Transport])[] {
	const options = { baseUrl: world.url, nodeOptions: { ca: world.rootPem }, interceptors: [bearer(key)] };
	return [
		['command', ours(world.url, key, options.nodeOptions)],
		['connect', createConnectTransport({ ...options, httpVersion: '2' })],
		['grpc', createGrpcTransport(options)],
	];
}

type Sent = Parameters<typeof create<typeof AttachTerminalRequestSchema>>[1];

async function* first(message: Sent): AsyncGenerator<AttachTerminalRequest> {
	yield create(AttachTerminalRequestSchema, message);
}

/** Bytes that differ from those of another offset. */
function patterned(length: number): Uint8Array<ArrayBuffer> {
	return Uint8Array.from({ length }, (_, index) => index * 31 + (index >> 8));
}

const attachTo = (terminalId: string): Sent => ({
	terminalId,
	message: { case: 'attach', value: { mode: AttachMode.CONTROL } },
});

/** A node that answers what it is given. */
async function echoing(terminalId: string): Promise<Relay> {
	const relay = await eventually('the relay is there', () => world.deps.terminals.get(terminalId));
	const listener = relay.connectNode(create(ChannelHelloSchema, { channelId: terminalId }), {
		send(message) {
			if (message.case !== 'input') return;
			const { offset = 0n, data = new Uint8Array(), end = false } = message.value;
			const value = { stream: Stream.STDOUT, offset, data, end };
			systemClock.defer(() => {
				listener.onFrame({ case: 'output', value } as never);
				listener.onFrame({ case: 'ack', value: { offset: offset + BigInt(data.length) } } as never);
			});
		},
		end: () => {},
	});
	return relay;
}

/** Sends all pieces and reads as much back; acknowledges what came, as whoever reads must. */
async function echoed(transport: Transport, terminalId: string, pieces: readonly Uint8Array<ArrayBuffer>[]) {
	const outgoing: AttachTerminalRequest['message'][] = [];
	let wake: () => void = () => {};
	async function* requests() {
		yield create(AttachTerminalRequestSchema, attachTo(terminalId));
		let offset = 0n;
		for (const data of pieces) {
			const value = { stream: Stream.STDIN, offset, data };
			yield create(AttachTerminalRequestSchema, { message: { case: 'input', value } });
			offset += BigInt(data.length);
		}
		for (;;) {
			for (const message of outgoing.splice(0)) {
				yield create(AttachTerminalRequestSchema, { message });
				if (message.case === 'detach') return;
			}
			if (outgoing.length > 0) continue;
			await new Promise<void>((resolve) => {
				wake = resolve;
			});
		}
	}
	const wanted = pieces.reduce((sum, { length }) => sum + length, 0);
	const got: Uint8Array[] = [];
	let bytes = 0;
	const say = (message: Sent) => {
		outgoing.push(present(create(AttachTerminalRequestSchema, message).message, 'a message'));
		wake();
	};
	const seen: string[] = [];
	for await (const { message } of createClient(TerminalService, transport).attachTerminal(requests())) {
		seen.push(message.case ?? '');
		if (message.case === 'attached') echoing(terminalId).catch(() => {});
		if (message.case !== 'output') continue;
		got.push(message.value.data);
		bytes += message.value.data.length;
		say({ message: { case: 'ack', value: { stream: Stream.STDOUT, offset: BigInt(bytes) } } });
		if (bytes === wanted) say({ message: { case: 'detach', value: {} } });
	}
	return { data: Buffer.concat(got), first: seen[0] };
}

describe('a stream in both directions', () => {
	test.each(['command', 'connect', 'grpc'])('carries every byte both ways and ends by itself (%s)', async (name) => {
		const [, transport] = present(
			transports(world.operatorKey).find(([known]) => known === name),
			name,
		);
		const terminalId = await addTerminal(world, nodeId, operatorId, OPEN);
		const pieces = [1, 4096, 131_072, 65_536, 131_072, 7].map((bytes) => patterned(bytes));
		const { data, first } = await echoed(transport, terminalId, pieces);
		expect(first).toBe('attached');
		expect(data.equals(Buffer.concat(pieces))).toBe(true);
		await eventually('nobody is attached', () => (world.deps.terminals.get(terminalId)?.viewers.size ?? 0) === 0);
	});

	test.each<[string, () => string, Sent]>([
		['without a key', () => '', attachTo('t')],
		['to a terminal that is not there', () => world.operatorKey, attachTo('t')],
		[
			'that doesn’t begin with attach',
			() => world.operatorKey,
			{ terminalId: 't', message: { case: 'detach', value: {} } },
		],
		['that breaks the contract', () => world.operatorKey, attachTo('x'.repeat(65))],
	])('%s is refused in the same words on every way', async (_what, key, message) => {
		const refusals = [];
		for (const [, transport] of transports(key())) {
			const { code, reason, message: text, error } = await refusalOf(drain(transport, first(message)));
			expect(error.metadata.get('x-correlation-id')).toMatch(/^[0-9a-f-]{36}$/);
			refusals.push({ code, reason, text });
		}
		expect(refusals).toHaveLength(3);
		for (const refusal of refusals) expect(refusal).toEqual(refusals[0]);
	});

	test('ends for its viewer when the caller leaves in the middle, and the terminal goes on', async () => {
		for (const [, transport] of transports(world.operatorKey)) {
			const terminalId = await addTerminal(world, nodeId, operatorId, OPEN);
			const leave = new AbortController();
			const messages = createClient(TerminalService, transport).attachTerminal(waiting(terminalId), {
				signal: leave.signal,
			});
			const reading = refusalOf(
				(async () => {
					for await (const { message } of messages) if (message.case === 'attached') leave.abort();
				})(),
			);
			expect((await reading).code).toBe('Canceled');
			await eventually('nobody is attached', () => world.deps.terminals.get(terminalId)?.viewers.size === 0);
		}
	});
});

async function drain(transport: Transport, requests: AsyncIterable<AttachTerminalRequest>): Promise<void> {
	for await (const _ of createClient(TerminalService, transport).attachTerminal(requests));
}

async function* waiting(terminalId: string): AsyncGenerator<AttachTerminalRequest> {
	yield create(AttachTerminalRequestSchema, attachTo(terminalId));
	await new Promise(() => {});
}

/** One request of raw bytes; the last envelope of its answer, and the connection's window for what we send afterwards. */
async function raw(body: Buffer, key = world.operatorKey, more: Record<string, string> = {}) {
	const session = connect(world.url, { ca: world.rootPem });
	const stream = session.request({
		':method': 'POST',
		':path': ATTACH,
		'content-type': 'application/connect+proto',
		authorization: `Bearer ${key}`,
		...more,
	});
	const answered = once(stream, 'response');
	const chunks: Buffer[] = [];
	stream.on('data', (chunk: Buffer) => chunks.push(chunk));
	stream.end(body);
	const [headers] = (await answered) as [Record<string, unknown>];
	await once(stream, 'close');
	const windowBytes = session.state.remoteWindowSize ?? 0;
	session.destroy();
	const whole = Buffer.concat(chunks);
	const last = whole.subarray(whole.lastIndexOf(Buffer.of(END_FLAG)) + ENVELOPE_HEAD_BYTES).toString();
	const { error } = JSON.parse(last) as {
		error?: { code: string; message: string; details?: [{ debug?: { reason?: string } }] };
	};
	return {
		headers,
		windowBytes,
		code: error?.code,
		message: error?.message ?? '',
		reason: error?.details?.[0]?.debug?.reason,
	};
}

function envelope(flags: number, body: Uint8Array): Buffer {
	const head = Buffer.alloc(5);
	head.writeUInt8(flags, 0);
	head.writeUInt32BE(body.length, 1);
	return Buffer.concat([head, body]);
}

describe('bytes that can not be read', () => {
	const attach = toBinary(AttachTerminalRequestSchema, create(AttachTerminalRequestSchema, attachTo('t')));

	test.each<[string, Buffer, string, RegExp]>([
		['no protobuf', envelope(0, Buffer.alloc(20, 0xff)), 'invalid_argument', /correct it/],
		['half a message', envelope(0, attach).subarray(0, 8), 'invalid_argument', /incomplete envelope; correct it/],
		['compressed without a word', envelope(1, attach), 'invalid_argument', /compressed envelope.*correct it/],
		['too large', envelope(0, Buffer.alloc(200_001)), 'resource_exhausted', /200000; send less/],
		['nothing', Buffer.alloc(0), 'invalid_argument', /ended before it said what it is about/],
	])('%s: refused with a reason and what to do', async (_what, body, code, message) => {
		const answer = await raw(body);
		expect(answer).toMatchObject({ code, reason: 'INVALID_REQUEST', message: expect.stringMatching(message) });
		expect(answer.headers).toMatchObject({
			':status': 200,
			'cache-control': 'no-store',
			'content-type': 'application/connect+proto',
		});
		expect(answer.headers['x-correlation-id']).toMatch(/^[0-9a-f-]{36}$/);
	});

	test('a deadline that is none is refused, one that passes ends the stream on every way', async () => {
		const answer = await raw(envelope(0, attach), world.operatorKey, { 'connect-timeout-ms': 'soon' });
		expect(answer).toMatchObject({ code: 'invalid_argument', reason: 'INVALID_REQUEST' });
		for (const [, transport] of transports(world.operatorKey)) {
			const terminalId = await addTerminal(world, nodeId, operatorId, OPEN);
			const client = createClient(TerminalService, transport);
			const reading = async () => {
				for await (const _ of client.attachTerminal(waiting(terminalId), { timeoutMs: 200 }));
			};
			expect((await refusalOf(reading())).code).toBe('DeadlineExceeded');
			// On a busy machine it may have passed before anybody was.
			await eventually('nobody is attached', () => (world.deps.terminals.get(terminalId)?.viewers.size ?? 0) === 0);
		}
	});

	test('only whom the gate let through may send more than 64 KiB ahead', async () => {
		expect((await raw(envelope(0, attach), 'nonsense')).windowBytes).toBeLessThanOrEqual(65_535);
		expect((await raw(envelope(0, attach))).windowBytes).toBeGreaterThan(1_000_000);
	});
});

describe('the command’s end', () => {
	test('speaks with the framework’s server, hears its errors, and takes a stream that is cut for an outage', async () => {
		const server = createServer(
			connectNodeAdapter({
				routes: (router) =>
					router.rpc(TerminalService.method.attachTerminal, async function* (requests) {
						for await (const { message, terminalId } of requests) {
							if (terminalId === 'refused') throw new ConnectError('not here', Code.NotFound, { 'x-why': 'gone' });
							if (terminalId === 'cut') for (const session of sessions) session.destroy();
							if (message.case === 'input')
								yield { message: { case: 'output', value: message.value } } as AttachTerminalResponse;
							if (message.case === 'detach') return;
						}
					}),
			}),
		);
		const sessions = new Set<{ destroy(): void }>();
		server.on('session', (session) => sessions.add(session));
		const codes: (number | undefined)[] = [];
		server.on('stream', (stream) => stream.once('close', () => codes.push(stream.rstCode)));
		await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
		const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
		const client = createClient(TerminalService, ours(url, '', {}));
		const data = patterned(300_000);
		async function* requests(): AsyncGenerator<AttachTerminalRequest> {
			yield create(AttachTerminalRequestSchema, { message: { case: 'input', value: { data } } });
			yield create(AttachTerminalRequestSchema, { message: { case: 'detach', value: {} } });
			// The server ends it.
			await new Promise(() => {});
		}
		const got = [];
		for await (const { message } of client.attachTerminal(requests()))
			if (message.case === 'output') got.push(message.value.data);
		expect(Buffer.concat(got).equals(Buffer.from(data))).toBe(true);
		// A reset would count against this client (Connections), whose call ended well.
		await eventually('it is over', () => codes.length === 1);
		expect(codes).toEqual([0]);
		const ended = await refusalOf(drain(ours(url, '', {}), first(attachTo('refused'))));
		expect(ended).toMatchObject({ code: 'NotFound', message: 'not here' });
		expect(ended.error.metadata.get('x-why')).toBe('gone');
		const cut = await refusalOf(drain(ours(url, '', {}), first(attachTo('cut'))));
		expect(['Unavailable', 'Canceled', 'Aborted']).toContain(cut.code);
		server.close();
		for (const session of sessions) session.destroy();
	});
});
