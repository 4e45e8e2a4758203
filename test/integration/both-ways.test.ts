import { once } from 'node:events';
import { type ClientHttp2Session, createSecureServer, type Http2SecureServer, type Http2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { create, toBinary } from '@bufbuild/protobuf';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { GrpcTransport } from '../../agent/control/grpc-transport.ts';
import { ApiSessions } from '../../cli/sessions.ts';
import { systemClock } from '../../kit/clock.ts';
import { envelopeHead } from '../../proto/envelope.ts';
import { ChannelRequestSchema, ChannelResponseSchema } from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { Stream } from '../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import { eventually } from '../eventually.ts';
import { startWorld, targetOf } from './link-world.ts';

/**
 * Much goes both ways at once, more than all kernels in between hold, as on a slow line: node:http2 reads nothing while
 * its write waits, so both wait for each other until somebody cuts that; then whoever dials again reads whatever waits.
 */
const WINDOW_BYTES = 256 * 1024 * 1024;
const MEMORY = { maxSessionMemory: 1000 };
const PIECE = (() => {
	const value = { stream: Stream.STDIN, data: new Uint8Array(64 * 1024) };
	const bytes = toBinary(ChannelResponseSchema, create(ChannelResponseSchema, { message: { case: 'input', value } }));
	return Buffer.concat([envelopeHead(0, bytes.length), bytes]);
})();
const PIECES = 768;
const SOON = { keepaliveMs: 200, keepaliveTimeoutMs: 400 };

let tls: { readonly cert: string; readonly key: string };
let target: ReturnType<typeof targetOf>;
let server: Http2SecureServer;
let taken = 0;

beforeAll(async () => {
	await using world = await startWorld();
	const { chainPem: cert, keyPem: key } = world.gatewayIdentity;
	tls = { cert, key };
	target = targetOf(await world.enroll(), '');
});
afterEach(() => server.close());

/** Writes it all at once to whoever comes, and takes what they send. */
async function listening(contentType: string): Promise<number> {
	taken = 0;
	server = createSecureServer({ ...tls, ...MEMORY, settings: { initialWindowSize: WINDOW_BYTES } });
	server.on('session', (session) => session.setLocalWindowSize(WINDOW_BYTES));
	server.on('stream', (stream) => {
		stream.on('error', () => {});
		stream.respond({ ':status': 200, 'content-type': contentType });
		stream.on('data', (chunk: Buffer) => {
			taken += chunk.length;
		});
		writeAll(stream);
	});
	server.listen(0, '127.0.0.1');
	await once(server, 'listening');
	return (server.address() as AddressInfo).port;
}

function writeAll(stream: Http2Stream & { write(piece: Buffer): unknown }): void {
	for (let sent = 0; sent < PIECES; sent += 1) stream.write(PIECE);
}

test('the command takes what comes, whatever it has to say', async () => {
	const settings = { initialWindowSize: WINDOW_BYTES };
	const options = { rejectUnauthorized: false, settings, ...MEMORY };
	const sessions = new ApiSessions(`https://localhost:${await listening('text/plain')}`, SOON, options);
	const both = async () => {
		const stream = await sessions.request('POST', '/', {}, {});
		(stream.session as ClientHttp2Session).setLocalWindowSize(WINDOW_BYTES);
		let [came, isCut] = [0, false];
		taken = 0;
		stream.on('error', () => {
			isCut = true;
		});
		stream.on('data', (chunk: Buffer) => {
			came += chunk.length;
		});
		writeAll(stream);
		return await eventually('all has come, both ways, or it was cut', () => {
			if (isCut) return 'cut';
			return came === PIECES * PIECE.length && taken === came && 'whole';
		});
	};
	expect([await both(), await both()]).toEqual(['cut', 'whole']);
	sessions.abort();
});

test('an agent does', async () => {
	const port = await listening('application/grpc');
	const limits = {
		streamWindowBytes: WINDOW_BYTES,
		connectionWindowBytes: WINDOW_BYTES,
		messageBytesMax: PIECE.length,
		...SOON,
	};
	const connection = new GrpcTransport(systemClock, limits).open({ ...target, gateway: `127.0.0.1:${port}` });
	const value = { stream: Stream.STDOUT, data: new Uint8Array(PIECE.length) };
	const both = async () => {
		let [came, isCut] = [0, false];
		taken = 0;
		const stream = connection.channel({
			onFrame: () => {
				came += 1;
			},
			onWritable: () => {},
			onClosed: () => {
				isCut = true;
			},
		});
		for (let sent = 0; sent < PIECES; sent += 1)
			stream.send(create(ChannelRequestSchema, { message: { case: 'output', value } }));
		return await eventually('all has come, both ways, or it was cut', () => {
			if (isCut) return 'cut';
			return taken > PIECES * PIECE.length && came === PIECES && 'whole';
		});
	};
	expect([await both(), await both()]).toEqual(['cut', 'whole']);
	connection.close();
});
