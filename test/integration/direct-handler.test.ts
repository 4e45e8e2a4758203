import { once } from 'node:events';
import { type ClientHttp2Session, connect, createServer, type Http2Server, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { create, toBinary } from '@bufbuild/protobuf';
import {
	Code,
	ConnectError,
	createContextValues,
	createMethodImplSpec,
	type HandlerContext,
} from '@connectrpc/connect';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { directHandler } from '../../control-plane/api/direct-streams.ts';
import { present } from '../../kit/assert.ts';
import { envelopeHead } from '../../proto/envelope.ts';
import { AttachTerminalRequestSchema, TerminalService } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { eventually } from '../eventually.ts';

/** One method on a server without TLS, so that a test holds both ends of the stream. */
let server: Http2Server;
let session: ClientHttp2Session;
let gate: () => Promise<void>;
let answer: (requests: AsyncIterable<unknown>, context: HandlerContext) => AsyncGenerator<never>;
let faults: unknown[];
let streams: ServerHttp2Stream[];

beforeEach(async () => {
	gate = async () => {};
	faults = [];
	streams = [];
	const { attachTerminal } = TerminalService.method;
	const handler = directHandler(
		createMethodImplSpec(attachTerminal, (requests, context) => answer(requests, context)),
		{
			requestGate: () => gate(),
			interceptors: [],
			readMaxBytes: 1000,
			writeMaxBytes: 1000,
			maxTimeoutMs: 60_000,
			jsonOptions: {},
			shutdownSignal: new AbortController().signal,
			onFault: (_values, thrown) => faults.push(thrown),
		},
	);
	server = createServer((request, response) => {
		streams.push(request.stream);
		handler(request, response, createContextValues());
	});
	await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
	session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
afterEach(() => {
	session.destroy();
	server.close();
});

function open() {
	return session.request({ ':method': 'POST', ':path': '/', 'content-type': 'application/connect+proto' });
}

const MESSAGE = (() => {
	const bytes = toBinary(AttachTerminalRequestSchema, create(AttachTerminalRequestSchema, { terminalId: 't' }));
	return Buffer.concat([envelopeHead(0, bytes.length), bytes]);
})();

test('a caller who leaves while the gate looks at them is not waited for', async () => {
	const opened = Promise.withResolvers<void>();
	gate = () => opened.promise;
	let underWay = 0;
	answer = async function* (requests) {
		underWay += 1;
		try {
			for await (const _ of requests);
		} finally {
			underWay -= 1;
		}
	};
	const [left, stayed] = [open(), open()];
	left.on('error', () => {});
	left.write(MESSAGE);
	stayed.write(MESSAGE);
	await eventually('both are there', () => streams.length === 2);
	const [gone] = streams;
	left.close(8);
	await eventually('one is gone', () => present(gone, 'the first').destroyed);
	opened.resolve();
	await eventually('the other one is served', () => underWay === 1);
	stayed.end();
	stayed.resume();
	await once(stayed, 'close');
	await eventually('nobody is', () => underWay === 0);
	expect(faults).toEqual([]);
});

test('a connection that is cut, without a word for its streams, is no failure of ours', async () => {
	let why: unknown;
	answer = async function* (_requests, { signal }) {
		await once(signal, 'abort');
		why = signal.reason;
	};
	const stream = open();
	stream.on('error', () => {});
	stream.write(MESSAGE);
	await eventually('it is served', () => streams.length === 1);
	present(streams[0]?.session, 'its connection').destroy();
	await eventually('it knows', () => why !== undefined);
	expect(why).toMatchObject({ code: Code.Canceled });
	expect(faults).toEqual([]);
});

test('what comes after the end of a call is read and dropped', async () => {
	// As the wrapper of use cases does: the iterator is not told that nobody reads on.
	answer = async function* (requests) {
		await requests[Symbol.asyncIterator]().next();
		throw new ConnectError('no', Code.NotFound);
	};
	const stream = open();
	stream.resume();
	stream.write(MESSAGE);
	await once(stream, 'end');
	const [served] = streams;
	const theirs = present(served, 'the stream');
	expect(theirs.listenerCount('data')).toBe(0);
	// Much more than any window: all of it is taken.
	for (let sent = 0; sent < 300; sent += 1) {
		if (!stream.write(Buffer.alloc(16_384))) await once(stream, 'drain');
	}
	expect(theirs.readableLength).toBeLessThan(100_000);
	stream.close();
});

test('a failure of our own is told to nobody but the log', async () => {
	answer = async function* () {
		yield { message: { case: 'output', value: { offset: 'no number' } } } as never;
	};
	const stream = open();
	stream.end(MESSAGE);
	const chunks: Buffer[] = [];
	stream.on('data', (chunk: Buffer) => chunks.push(chunk));
	await once(stream, 'end');
	expect(Buffer.concat(chunks).toString()).toMatch(/internal/);
	expect(Buffer.concat(chunks).toString()).not.toMatch(/no number/);
	expect(faults).toHaveLength(1);
});
