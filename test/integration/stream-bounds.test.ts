import { once } from 'node:events';
import { type ClientHttp2Session, type ClientHttp2Stream, connect, type Settings } from 'node:http2';
import { create, toBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { envelopeHead } from '../../proto/envelope.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { AttachMode, AttachTerminalRequestSchema } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import { eventually } from '../eventually.ts';
import { ApiWorld } from './api-world.ts';
import { addTerminal } from './terminal-samples.ts';

/** Streams in both directions whose caller says nothing, reads nothing, or never ends: on the direct way and in gRPC. */
let world: ApiWorld;
let nodeId: string;
let operatorId: string;
const sessions: ClientHttp2Session[] = [];
beforeAll(async () => {
	const api = { requestBodyTimeoutMs: 1500, requestTimeoutMs: 1000, halfOpenGraceMs: 100, streamsPerPrincipalMax: 2 };
	world = await ApiWorld.start({ api });
	nodeId = (await world.addNode()).id;
	operatorId = (await world.client(SystemService, world.operatorKey).whoAmI({})).principalId;
});
afterAll(async () => {
	for (const session of sessions) session.destroy();
	await world[Symbol.asyncDispose]();
});

const WAYS = ['application/connect+proto', 'application/grpc+proto'] as const;
type Way = (typeof WAYS)[number];

/** A stream on a connection of its own, with what was answered on it so far. */
function open(way: Way, more: Record<string, string> = {}, settings: Settings = {}) {
	const session = connect(world.url, { ca: world.rootPem, settings });
	sessions.push(session);
	const stream = session.request({
		':method': 'POST',
		':path': '/gpuaas.terminals.v1.TerminalService/AttachTerminal',
		'content-type': way,
		te: 'trailers',
		authorization: `Bearer ${world.operatorKey}`,
		...more,
	});
	const said: string[] = [];
	stream.on('error', () => {});
	stream.on('trailers', (trailers) => said.push(`grpc-status ${trailers['grpc-status']} ${trailers['grpc-message']}`));
	stream.on('response', (headers) => said.push(`grpc-status ${headers['grpc-status']} ${headers['grpc-message']}`));
	stream.on('data', (chunk: Buffer) => said.push(chunk.toString('latin1')));
	return { stream, said: () => decodeURIComponent(said.join('\n').replaceAll('%', '%25').replaceAll('%2520', ' ')) };
}

function attachTo(terminalId: string): Buffer {
	const message = { terminalId, message: { case: 'attach' as const, value: { mode: AttachMode.CONTROL } } };
	const bytes = toBinary(AttachTerminalRequestSchema, create(AttachTerminalRequestSchema, message));
	return Buffer.concat([envelopeHead(0, bytes.length), bytes]);
}

/** The time to a stream's first message begins with the stream. */
async function openAttached(way: Way): Promise<{ readonly stream: ClientHttp2Stream; readonly terminalId: string }> {
	const more = { tty: false, state: 'open' as const, closedAtMs: null, exitCode: null, reason: '' };
	const terminalId = await addTerminal(world, nodeId, operatorId, more);
	const { stream } = open(way);
	stream.write(attachTo(terminalId));
	await eventually('it is attached', () => world.deps.terminals.get(terminalId)?.viewers.size === 1);
	return { stream, terminalId };
}

describe.each(WAYS)('%s', (way) => {
	const code = (name: string, number: number) =>
		way === WAYS[0] ? new RegExp(name) : new RegExp(`grpc-status ${number}`);

	test('without a first message the stream is ended, also when its caller never ends their half', async () => {
		const { stream, said } = open(way);
		await once(stream, 'close');
		expect(said()).toMatch(code('deadline_exceeded', 4));
		expect(said()).toMatch(/no(%20| )first(%20| )message/);
		expect(stream.rstCode).toBe(0);
	});

	test('a deadline counts before the first message', async () => {
		const header = way === WAYS[0] ? { 'connect-timeout-ms': '20' } : { 'grpc-timeout': '20m' };
		const { stream, said } = open(way, header);
		await once(stream, 'close');
		expect(said()).toMatch(code('deadline_exceeded', 4));
		expect(said()).not.toMatch(/first(%20| )message/);
	});

	test('who was refused and sends on is ended too, their answer counts', async () => {
		const { stream, said } = open(way);
		stream.write(attachTo('not-there'));
		const more = Buffer.concat([envelopeHead(0, 100_000), Buffer.alloc(60_000)]);
		stream.write(more);
		await once(stream, 'close');
		expect(said()).toMatch(code('not_found', 5));
		expect(stream.rstCode).toBe(0);
	});

	test('an answer that nobody reads is given up', async () => {
		const { stream } = open(way, {}, { initialWindowSize: 0 });
		stream.end(attachTo('not-there'));
		await once(stream, 'close');
		// gRPC says it all in the headers, which no window holds back.
		expect(stream.rstCode).toBe(way === WAYS[0] ? 8 : 0);
	});

	test('one caller has so many streams and no more, until some end', async () => {
		const own = [await openAttached(way), await openAttached(way)];
		const third = open(way);
		await once(third.stream, 'close');
		expect(third.said()).toMatch(code('resource_exhausted', 8));
		expect(third.said()).toMatch(/2(%20| )streams(%20| )open/);
		for (const { stream } of own) stream.close(8);
		for (const { terminalId } of own)
			await eventually('nobody is attached', () => world.deps.terminals.get(terminalId)?.viewers.size === 0);
		(await openAttached(way)).stream.close(8);
	});
});

test('a listener that closes ends attached and silent streams and waits for neither', async () => {
	const other = await ApiWorld.start({ api: { requestBodyTimeoutMs: 3_600_000 } });
	const session = connect(other.url, { ca: other.rootPem });
	sessions.push(session);
	const streams = WAYS.map((way) => {
		const stream = session.request({
			':method': 'POST',
			':path': '/gpuaas.terminals.v1.TerminalService/AttachTerminal',
			'content-type': way,
			te: 'trailers',
			authorization: `Bearer ${other.operatorKey}`,
		});
		stream.on('error', () => {});
		stream.resume();
		return stream;
	});
	await session.settings({});
	await other.client(SystemService, other.operatorKey).whoAmI({});
	const ends = streams.map((stream) => once(stream, 'end'));
	// Longer than any test may take.
	const closed = other.server.close(3_600_000);
	await Promise.all(ends);
	session.close();
	for (const stream of streams) stream.end();
	await closed;
	await other[Symbol.asyncDispose]();
});
