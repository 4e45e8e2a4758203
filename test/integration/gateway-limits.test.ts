import { once } from 'node:events';
import {
	type ClientHttp2Session,
	type ClientHttp2Stream,
	connect as connectHttp2,
	constants,
	type SecureClientSessionOptions,
} from 'node:http2';
import { connect as connectTcp, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import { create, toBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { GrpcTransport } from '../../agent/control/grpc-transport.ts';
import type { StoredIdentity } from '../../agent/identity/stored-identity.ts';
import type { LinkDeps } from '../../control-plane/gateway/link-deps.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { ChannelRequestSchema } from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { HelloSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { eventually } from '../eventually.ts';
import { startWorld, TRUST_DOMAIN, type World } from './link-world.ts';
import { moreHeaders, openHeaders, opening } from './raw-http2.ts';
import { RawLink } from './raw-link.ts';

/** What a node that means harm, or is broken, can hold of the gateway: for a bounded time, and nobody else suffers. */
let world: World;
let identity: StoredIdentity;
let bystander: RawLink;
beforeAll(async () => {
	world = await startWorld({
		// The bystander says nothing for as long as a test takes.
		appLimits: { leaseTtlFloorMs: 3_600_000 },
		// Honest clients of this process have to be through in that time too, or come again.
		limits: { helloTimeoutMs: 2000, closeGraceMs: 500, tickMs: 50 },
		gateway: { tls: { handshakeTimeoutMs: 2000 }, wire: { idleMs: 2000 } },
	});
	identity = await world.enroll();
	const { port } = world.gateway;
	const other = await world.enroll();
	for (;;) {
		bystander = new RawLink(new GrpcTransport(systemClock), other, `127.0.0.1:${port}`);
		const { frames } = bystander.hello();
		await eventually('it is answered', () => frames.length > 0 || bystander.end !== undefined);
		if (frames[0]?.message.case === 'welcome') break;
		bystander.close();
	}
});
afterAll(async () => {
	bystander.close();
	await world[Symbol.asyncDispose]();
});

let facts = 0n;
/** The link that was there before still gets its acknowledgements. */
async function stillServes(): Promise<void> {
	facts += 1n;
	bystander.fact(facts);
	await eventually('the link of another node goes on', () => bystander.factAck() === facts);
	expect(bystander.end).toBeUndefined();
	await eventually('nothing is left of it', () => world.gateway.connections() === 1);
}

function tlsOptions(who = identity): ConnectionOptions {
	const { chainPem: cert, keyPem: key } = who.credential();
	return { servername: `gateway.${TRUST_DOMAIN}`, ca: who.bundle().rootsPem, cert, key };
}

/** Whether it came so far, or was cut. */
function arrives(end: TLSSocket | ClientHttp2Session, event: 'secureConnect' | 'connect'): Promise<boolean> {
	end.on('error', () => {});
	return Promise.race([
		once(end, event)
			.then(() => true)
			.catch(() => false),
		closed(end).then(() => false),
	]);
}

async function tls(): Promise<TLSSocket> {
	const { port } = world.gateway;
	for (;;) {
		const socket = connectTls({ host: '127.0.0.1', port, ALPNProtocols: ['h2'], ...tlsOptions() });
		// A socket that is not read never hears that it was closed.
		if (await arrives(socket, 'secureConnect')) return socket.resume();
	}
}

async function http2({ gateway } = world, who = identity, more: SecureClientSessionOptions = {}) {
	const options = { ...tlsOptions(who), checkServerIdentity: () => undefined, ...more };
	for (;;) {
		const session = connectHttp2(`https://127.0.0.1:${gateway.port}`, options);
		if (await arrives(session, 'connect')) return session;
	}
}

function call(session: ClientHttp2Session, method: string): ClientHttp2Stream {
	const stream = session.request({
		':method': 'POST',
		':path': `/gpuaas.link.v1.AgentLinkService/${method}`,
		'content-type': 'application/grpc',
		te: 'trailers',
	});
	stream.on('error', () => {});
	return stream.resume();
}

/** However it ends. */
function closed(end: { once(event: 'close', listener: () => void): unknown }): Promise<void> {
	return new Promise((resolve) => void end.once('close', resolve));
}

/** A byte now and then, for ever. */
function drip(
	stream: { destroyed: boolean; write(chunk: Uint8Array, done: () => void): boolean },
	bytes: Uint8Array,
): void {
	let sent = 0;
	const next = () => {
		if (stream.destroyed) return;
		const at = sent % bytes.length;
		sent += 1;
		stream.write(bytes.subarray(at, at + 1), () => systemClock.setTimer(next, 10));
	};
	next();
}

test('silence costs the connection: in the handshake, after it, and behind the first frames', async () => {
	const silent = connectTcp(world.gateway.port, '127.0.0.1');
	silent.on('error', () => {});
	const gone = [closed(silent)];
	gone.push(closed(await tls()));
	gone.push(closed(await http2()));
	await Promise.all(gone);
	await stillServes();
});

test('slow-loris: headers that never end cost the connection', async () => {
	const socket = await tls();
	const done = closed(socket);
	socket.write(opening());
	socket.write(openHeaders(1));
	// Each frame is whole and in order: only the end of the headers never comes.
	const next = () => {
		if (!socket.destroyed) socket.write(moreHeaders(1), () => systemClock.setTimer(next, 20));
	};
	next();
	await done;
	await stillServes();
});

test.each(['Connect', 'UploadOutput', 'Channel', 'RenewCertificate'])(
	'slow-loris: a first message of %s that never ends costs the stream',
	async (method) => {
		const session = await http2();
		const stream = call(session, method);
		const hello = toBinary(HelloSchema, create(HelloSchema, { nodeId: identity.nodeId, instanceId: 'x'.repeat(64) }));
		const head = Buffer.alloc(5);
		// Promised are more bytes than ever come.
		head.writeUInt32BE(1_000_000, 1);
		stream.write(head);
		drip(stream, hello);
		await closed(stream);
		session.close();
		await stillServes();
	},
);

test('a stream that was refused is over, also for whoever keeps their half of it open', async () => {
	// The age of its connection shall not be what ends it.
	await using patient = await startWorld({
		limits: { closeGraceMs: 500 },
		gateway: { wire: { idleMs: 600_000 } },
	});
	const session = await http2(patient, await patient.enroll());
	const stream = call(session, 'NoSuchMethod');
	const [headers] = (await once(stream, 'response')) as [Record<string, string>];
	expect(headers['grpc-status']).toBe('12');
	drip(stream, Buffer.alloc(1));
	await closed(stream);
	session.destroy();
});

/** A node that opens a channel and gives it no window at all. */
async function unreadChannel(joinChannel: LinkDeps['joinChannel']): Promise<ClientHttp2Stream> {
	const gateway = await world.startGateway({ joinChannel });
	const session = await http2({ ...world, gateway }, identity, { settings: { initialWindowSize: 0 } });
	const stream = call(session, 'Channel');
	const value = { channelId: uuidv7(systemClock.now(), systemRng), generation: 1 };
	const hello = create(ChannelRequestSchema, { message: { case: 'hello', value } });
	stream.write(enveloped(toBinary(ChannelRequestSchema, hello)));
	return stream;
}

function enveloped(message: Uint8Array): Buffer {
	const head = Buffer.alloc(5);
	head.writeUInt32BE(message.length, 1);
	return Buffer.concat([head, message]);
}

const CHANNEL_LISTENER = { onFrame: () => {}, onClosed: () => {} };

test('a channel that was ended counts against its node, and is reset when its answer is not read', async () => {
	const attached: number[] = [];
	const stream = await unreadChannel(async (_ctx, nodeId, _hello, node) => {
		node.send({ case: 'accepted', value: {} });
		node.end();
		attached.push(world.registry.attachedCount(nodeId));
		return CHANNEL_LISTENER;
	});
	await closed(stream);
	expect(attached).toEqual([1]);
	expect(stream.rstCode).toBe(constants.NGHTTP2_CANCEL);
	await eventually('it counts no more', () => world.registry.attachedCount(identity.nodeId) === 0);
	stream.session?.destroy();
	await stillServes();
});

test('a channel whose node takes nothing holds a bounded part of what is for it', async () => {
	const data = new Uint8Array(128 * 1024);
	const much: LinkDeps['joinChannel'] = async (_ctx, _nodeId, _hello, node) => {
		for (let sent = 0; sent < 256; sent += 1) {
			const offset = BigInt(sent * data.length);
			node.send({ case: 'input', value: { offset, data } });
		}
		return CHANNEL_LISTENER;
	};
	const codes: (number | undefined)[] = [];
	// A machine that stands still for 2 s has the silent connection cut before.
	while (codes.length < 5 && codes.at(-1) !== constants.NGHTTP2_ENHANCE_YOUR_CALM) {
		const stream = await unreadChannel(much);
		await closed(stream);
		codes.push(stream.rstCode);
		stream.session?.destroy();
	}
	expect(codes.at(-1)).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM);
	await stillServes();
});

test('strangers who say nothing and come back hold the places of their address, and no agent out', async () => {
	await using small = await startWorld({
		gateway: {
			tls: { handshakeTimeoutMs: 600_000 },
			acceptor: {
				handshakesAtOnceMax: 4,
				handshakesAtOncePerGroupMax: 3,
				waitingMax: 6,
				firstStreamMs: 600_000,
				handshakesPerSecondPerAddress: 10_000,
			},
		},
	});
	let isOver = false;
	let dials = 0;
	const sockets = new Set<Socket>();
	const comeBack = () => {
		dials += 1;
		const socket = connectTcp({ host: '127.0.0.1', port: small.gateway.port, localAddress: '127.0.0.2' });
		sockets.add(socket);
		socket.on('error', () => {});
		socket.once('close', () => {
			sockets.delete(socket);
			if (!isOver) systemClock.setTimer(comeBack, 5);
		});
	};
	for (let count = 0; count < 20; count += 1) comeBack();
	await eventually('the line is full', () => dials > 60);
	const links: RawLink[] = [];
	for (let agent = 0; agent < 3; agent += 1) {
		const target = `127.0.0.1:${small.gateway.port}`;
		const link = new RawLink(new GrpcTransport(systemClock), await small.enroll(), target);
		links.push(link);
		await link.hello().welcomed();
	}
	isOver = true;
	for (const link of links) link.close();
	for (const socket of sockets) socket.destroy();
});
