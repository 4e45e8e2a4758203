import { createServer, type Http2Server, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { create, toBinary } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { takenBy, withDirectStreams } from '../../cli/direct-streams.ts';
import { ApiSessions } from '../../cli/sessions.ts';
import { systemClock } from '../../kit/clock.ts';
import { END_FLAG, ENVELOPE_HEAD_BYTES, envelopeHead } from '../../proto/envelope.ts';
import {
	type AttachTerminalResponse,
	AttachTerminalResponseSchema,
	TerminalService,
} from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { eventually } from '../eventually.ts';

/** Messages that go straight to whoever takes them: in order, one at a time, and nothing after the end. */
let server: Http2Server;
let stream: ServerHttp2Stream | undefined;
let baseUrl: string;

beforeAll(async () => {
	server = createServer();
	server.on('stream', (opened) => {
		opened.on('error', () => {});
		opened.respond({ ':status': 200, 'content-type': 'application/connect+proto' });
		stream = opened;
	});
	await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
	baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
	stream?.destroy();
	server.close();
});

function notice(text: string): Buffer {
	const value = create(AttachTerminalResponseSchema, { message: { case: 'notice', value: { message: text } } });
	const bytes = toBinary(AttachTerminalResponseSchema, value);
	return Buffer.concat([envelopeHead(0, bytes.length), bytes]);
}

function end(json: string): Buffer {
	const head = envelopeHead(END_FLAG, 0, json.length);
	head.write(json, ENVELOPE_HEAD_BYTES);
	return head;
}

interface Attempt {
	readonly taken: string[];
	readonly iterated: number[];
	/** Of those that were not done at once. */
	readonly done: (() => void)[];
	readonly over: Promise<unknown>;
}

/** `slow`: not done before it is told so. */
async function attach(slow: readonly string[] = []): Promise<Attempt> {
	stream = undefined;
	const manager = new ApiSessions(baseUrl, {}, {});
	const base = createConnectTransport({ baseUrl, httpVersion: '2', sessionManager: manager });
	const client = createClient(TerminalService, withDirectStreams(base, manager, { baseUrl, interceptors: [] }));
	const attempt = { taken: [] as string[], iterated: [] as number[], done: [] as (() => void)[] };
	const contextValues = takenBy<AttachTerminalResponse>(({ message }) => {
		const text = message.case === 'notice' ? message.value.message : '';
		attempt.taken.push(text);
		return slow.includes(text) ? new Promise((resolve) => attempt.done.push(resolve)) : undefined;
	});
	const over = (async () => {
		async function* nothing() {}
		for await (const _ of client.attachTerminal(nothing(), { contextValues })) attempt.iterated.push(1);
		return 'ended';
	})().catch((error: unknown) => error);
	await eventually('it is open', () => stream !== undefined);
	return { ...attempt, over };
}

test('each is taken when it comes, and the iterator only ends', async () => {
	const { taken, iterated, over } = await attach();
	stream?.write(Buffer.concat([notice('a'), notice('b')]));
	await eventually('both came', () => taken.length === 2);
	stream?.end(Buffer.concat([notice('c'), end('{}')]));
	expect(await over).toBe('ended');
	expect([taken, iterated]).toEqual([['a', 'b', 'c'], []]);
});

test('what comes behind one that is not done waits for it, the end too', async () => {
	const { taken, done, over } = await attach(['a', 'c']);
	stream?.end(Buffer.concat([notice('a'), notice('b'), notice('c'), end('{}')]));
	await eventually('the first came', () => done.length === 1);
	expect(taken).toEqual(['a']);
	done[0]?.();
	await eventually('the third came', () => done.length === 2);
	expect(taken).toEqual(['a', 'b', 'c']);
	let isOver = false;
	void over.then(() => {
		isOver = true;
	});
	await new Promise<void>((resolve) => systemClock.defer(resolve));
	expect(isOver).toBe(false);
	done[1]?.();
	expect(await over).toBe('ended');
});

test('how the server ended it is thrown behind what came before', async () => {
	const { taken, over } = await attach();
	stream?.end(Buffer.concat([notice('a'), end('{"error":{"code":"permission_denied","message":"no"}}')]));
	expect(await over).toMatchObject({ rawMessage: 'no' });
	expect(taken).toEqual(['a']);
});

test('a connection that breaks, and bytes that can not be read, are failures, and nothing more is taken', async () => {
	const broken = await attach();
	stream?.write(notice('a'));
	await eventually('it came', () => broken.taken.length === 1);
	stream?.session?.destroy();
	expect(await broken.over).toBeInstanceOf(Error);
	const unreadable = await attach();
	const bad = Buffer.from([0, 0, 0, 0, 2, 0xff, 0xff]);
	stream?.write(Buffer.concat([notice('a'), bad, notice('b')]));
	expect(await unreadable.over).toBeInstanceOf(Error);
	expect([unreadable.taken, unreadable.iterated]).toEqual([['a'], []]);
});
