import { once } from 'node:events';
import { constants, createSecureServer } from 'node:http2';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
	Client,
	type ClientDuplexStream,
	credentials,
	Metadata,
	Server,
	type ServerDuplexStream,
	type ServiceDefinition,
	type StatusObject,
} from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GrpcTransport } from '../../agent/control/grpc-transport.ts';
import type { ClientStream, LinkConnection, StreamEnd } from '../../agent/control/link-transport.ts';
import type { StoredIdentity } from '../../agent/identity/stored-identity.ts';
import { GatewayCredentials } from '../../control-plane/gateway/credentials.ts';
import type { LinkDeps } from '../../control-plane/gateway/link-deps.ts';
import { type Gateway, startGateway } from '../../control-plane/gateway/server.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import {
	type ChannelRequest,
	ChannelRequestSchema,
	type ChannelResponse,
	ChannelResponseSchema,
} from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { AgentLinkService, CloseCode } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { Stream } from '../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import { type GrpcMethod, grpcServiceDefinition } from '../../proto/grpc.ts';
import { eventually } from '../eventually.ts';
import { DelayRelay } from '../fakes/delay-relay.ts';
import { startWorld, TRUST_DOMAIN, targetOf, type World } from './link-world.ts';

/**
 * Channels go past grpc-js at both ends, and neither may see it at the other: each end is tried with our own other end
 * and with that of grpc-js, of which agents and gateways of an older version are made.
 */
let world: World;
let gateway: Gateway;
let identity: StoredIdentity;
beforeAll(async () => {
	world = await startWorld();
	gateway = await world.startGateway({ joinChannel });
	identity = await world.enroll();
});
afterAll(() => world[Symbol.asyncDispose]());

/** A relay that gives back what it is given, and says goodbye after the end. */
const joinChannel: LinkDeps['joinChannel'] = async (_ctx, _nodeId, _hello, node) => {
	node.send({ case: 'accepted', value: {} });
	return {
		onFrame: (message) => {
			if (message.case === 'output') node.send({ case: 'input', value: { ...message.value, stream: Stream.STDIN } });
			else if (message.case === 'end') node.send({ case: 'forget', value: {} });
		},
		onClosed: () => {},
	};
};

type Up = NonNullable<MessageInitShape<typeof ChannelRequestSchema>['message']>;

type Down = NonNullable<MessageInitShape<typeof ChannelResponseSchema>['message']>;

/** One channel as a test sees it, whoever carries it. */
interface Talk {
	readonly frames: ChannelResponse[];
	readonly ends: StreamEnd[];
	send(message: Up): void;
	end(): void;
	cancel(): void;
}

function ourTalk(connection: LinkConnection): Talk {
	const frames: ChannelResponse[] = [];
	const ends: StreamEnd[] = [];
	const stream: ClientStream<ChannelRequest> = connection.channel({
		onFrame: (frame) => frames.push(frame),
		onWritable: () => {},
		onClosed: (end) => ends.push(end),
	});
	return {
		frames,
		ends,
		send: (message) => void stream.send(create(ChannelRequestSchema, { message })),
		end: () => stream.end(),
		cancel: () => stream.cancel(),
	};
}

const METHOD: GrpcMethod = present(grpcServiceDefinition(AgentLinkService).channel, 'the contract has channels');

/** Through grpc-js alone, as agents had it before. */
function grpcTalk(client: Client): Talk {
	const frames: ChannelResponse[] = [];
	const ends: StreamEnd[] = [];
	const call = client.makeBidiStreamRequest(
		METHOD.path,
		METHOD.requestSerialize as never,
		METHOD.responseDeserialize as never,
	) as ClientDuplexStream<ChannelRequest, ChannelResponse>;
	call.on('data', (frame: ChannelResponse) => frames.push(frame));
	call.on('error', () => {});
	call.on('status', ({ code, details, metadata }: StatusObject) =>
		ends.push({
			code: ['OK', 'CANCELLED'][code] ?? String(code),
			reason: String(metadata.get('gpuaas-reason')[0] ?? ''),
			message: details,
			retryAfterMs: 0,
		}),
	);
	return {
		frames,
		ends,
		send: (message) => void call.write(create(ChannelRequestSchema, { message })),
		end: () => call.end(),
		cancel: () => call.cancel(),
	};
}

function grpcClient(port: number): Client {
	const { chainPem, keyPem } = identity.credential();
	const [roots, key, chain] = [identity.bundle().rootsPem, keyPem, chainPem].map((pem) => Buffer.from(pem));
	return new Client(`127.0.0.1:${port}`, credentials.createSsl(roots, key, chain), {
		'grpc.ssl_target_name_override': `gateway.${TRUST_DOMAIN}`,
		'grpc.default_authority': `gateway.${TRUST_DOMAIN}`,
		'grpc.use_local_subchannel_pool': 1,
	});
}

/** A server of grpc-js alone, as gateways were before, whose channels are served by `serve`. */
async function grpcGateway(serve: (call: ServerDuplexStream<ChannelRequest, ChannelResponse>) => void) {
	const server = new Server();
	const service = { channel: METHOD } as unknown as ServiceDefinition;
	server.addService(service, { channel: serve as never });
	const port = await new Promise<number>((resolve, reject) => {
		server.bindAsync('127.0.0.1:0', new GatewayCredentials(world.gatewayIdentity), (error, bound) =>
			error === null ? resolve(bound) : reject(error),
		);
	});
	return { port, [Symbol.dispose]: () => server.forceShutdown() };
}

/** Accepts connections and never says a word. */
async function silentPeer() {
	const sockets = new Set<Socket>();
	const server = createTcpServer((socket) => {
		sockets.add(socket.on('error', () => {}).resume());
	}).listen(0, '127.0.0.1');
	await once(server, 'listening');
	return {
		port: (server.address() as AddressInfo).port,
		[Symbol.asyncDispose]: async () => {
			for (const socket of sockets) socket.destroy();
			server.close();
		},
	};
}

const hello = (): Up => ({
	case: 'hello',
	value: { channelId: uuidv7(systemClock.now(), systemRng), generation: 1 },
});

/** From nothing to the most that a frame may hold, with what fits an HTTP/2 frame and a TLS record, and just doesn't. */
const SIZES = [0, 1, 5, 1023, 1024, 1025, 16_379, 16_384, 16_385, 65_536, 131_072];

/** Sends runs of all sizes, twice; what came back, as one piece and by offset. */
async function echoed(talk: Talk): Promise<void> {
	talk.send(hello());
	await eventually('it is accepted', () => talk.frames[0]?.message.case === 'accepted');
	const sent: Buffer[] = [];
	let offset = 0;
	for (const size of [...SIZES, ...SIZES.toReversed()]) {
		const data = Buffer.from(Uint8Array.from({ length: size }, (_, index) => (offset + index) * 31 + (index >> 8)));
		sent.push(data);
		talk.send({ case: 'output', value: { stream: Stream.STDOUT, offset: BigInt(offset), data } });
		offset += size;
	}
	talk.send({ case: 'end', value: { exitCode: 0, reason: 'TERMINAL_EXITED', message: 'né 100 %' } });
	await eventually('all came back', () => talk.frames.at(-1)?.message.case === 'forget');
	const came: Uint8Array[] = [];
	let at = 0;
	for (const { message } of talk.frames) {
		if (message.case !== 'input') continue;
		expect(Number(message.value.offset)).toBe(at);
		came.push(message.value.data);
		at += message.value.data.length;
	}
	expect(Buffer.concat(came).equals(Buffer.concat(sent))).toBe(true);
	talk.end();
	await eventually('it ends', () => talk.ends.length > 0);
	expect(talk.ends).toMatchObject([{ code: 'OK', reason: '' }]);
}

describe('bytes of a channel, both ways', () => {
	test('between our own ends', async () => {
		const connection = new GrpcTransport(systemClock).open(targetOf(identity, `127.0.0.1:${gateway.port}`));
		await Promise.all([echoed(ourTalk(connection)), echoed(ourTalk(connection))]);
		connection.close();
	});

	test('from an agent of grpc-js', async () => {
		const client = grpcClient(gateway.port);
		await echoed(grpcTalk(client));
		client.close();
	});

	test('to a gateway of grpc-js', async () => {
		using other = await grpcGateway((call) => {
			const answer = (message: Down) => call.write(create(ChannelResponseSchema, { message }));
			call.on('data', ({ message }: ChannelRequest) => {
				if (message.case === 'hello') answer({ case: 'accepted', value: {} });
				else if (message.case === 'output') answer({ case: 'input', value: message.value });
				else answer({ case: 'forget', value: {} });
			});
			call.on('end', () => call.end());
		});
		const connection = new GrpcTransport(systemClock).open(targetOf(identity, `127.0.0.1:${other.port}`));
		await echoed(ourTalk(connection));
		connection.close();
	});
});

describe('how a channel ends', () => {
	test('by a status before the first message, and by one after it, with reason, words and time', async () => {
		const message = 'ça ne va pas: 100 % of it; %zz';
		const metadata = new Metadata();
		metadata.set('gpuaas-reason', 'TOO_MANY_HELLOS');
		metadata.set('retry-after', '3');
		using other = await grpcGateway((call) => {
			call.once('data', ({ message: first }: ChannelRequest) => {
				if (first.case === 'hello')
					call.write(create(ChannelResponseSchema, { message: { case: 'accepted', value: {} } }));
				call.emit('error', { code: 8, details: message, metadata });
			});
		});
		const connection = new GrpcTransport(systemClock).open(targetOf(identity, `127.0.0.1:${other.port}`));
		const talks = [ourTalk(connection), ourTalk(connection)];
		talks[0]?.send(hello());
		talks[1]?.send({ case: 'ack', value: {} });
		await eventually('both are over', () => talks.every(({ ends }) => ends.length > 0));
		const end = { code: 'RESOURCE_EXHAUSTED', reason: 'TOO_MANY_HELLOS', message, retryAfterMs: 3000 };
		expect(talks.map(({ ends }) => ends)).toEqual([[end], [end]]);
		expect(talks.map(({ frames }) => frames.length)).toEqual([1, 0]);
		connection.close();
	});

	test('by the agent, here and there', async () => {
		const left: string[] = [];
		const watched = await world.startGateway({
			joinChannel: async (_ctx, nodeId, _hello, node) => {
				node.send({ case: 'accepted', value: {} });
				return { onFrame: () => {}, onClosed: () => left.push(nodeId) };
			},
		});
		const connection = new GrpcTransport(systemClock).open(targetOf(identity, `127.0.0.1:${watched.port}`));
		const [first, second] = [ourTalk(connection), ourTalk(connection)];
		for (const talk of [first, second]) {
			talk.send(hello());
			await eventually('it is accepted', () => talk.frames.length === 1);
		}
		first.cancel();
		await eventually('the gateway knows', () => left.length === 1);
		expect(second.ends).toEqual([]);
		connection.close();
		await eventually('all are over', () => left.length === 2 && second.ends.length === 1);
		expect([first, second].map(({ ends }) => ends.map(({ code }) => code))).toEqual([['CANCELLED'], ['CANCELLED']]);
		const late = ourTalk(connection);
		await eventually('a stream on a closed connection ends too', () => late.ends.length === 1);
	});

	test('by a revocation, with all that the connection carries', async () => {
		const revoked = await world.enroll();
		const connection = new GrpcTransport(systemClock).open(targetOf(revoked, `127.0.0.1:${gateway.port}`));
		const talk = ourTalk(connection);
		talk.send(hello());
		await eventually('it is accepted', () => talk.frames.length === 1);
		world.registry.close(revoked.nodeId, CloseCode.REVOKED, 'it was stolen');
		await eventually('it is over', () => talk.ends.length === 1);
		await eventually('it counts no more', () => world.registry.attachedCount(revoked.nodeId) === 0);
		const { length } = talk.frames;
		talk.send({ case: 'output', value: { stream: Stream.STDOUT, data: new Uint8Array(10) } });
		expect(talk.frames.length).toBe(length);
		connection.close();
	});

	test('by a message above the bound, of which nothing is kept; other channels go on', async () => {
		const client = grpcClient(gateway.port);
		const [large, bystander] = [grpcTalk(client), grpcTalk(client)];
		for (const talk of [large, bystander]) talk.send(hello());
		const data = new Uint8Array(5 * 1024 * 1024);
		large.send({ case: 'output', value: { stream: Stream.STDOUT, data } });
		await eventually('it is over', () => large.ends.length === 1);
		expect(large.ends).toMatchObject([{ reason: 'INVALID_REQUEST' }]);
		expect(large.ends[0]?.message).toContain('was announced');
		bystander.send({ case: 'output', value: { stream: Stream.STDOUT, data: Uint8Array.of(7) } });
		await eventually('the other is answered', () => bystander.frames.at(-1)?.message.case === 'input');
		client.close();
	});

	test('by a connection that went silent, which both ends notice', async () => {
		const wire = { keepaliveMs: 300, keepaliveTimeoutMs: 300 };
		const left: string[] = [];
		const noticing = await startGateway(
			{
				...world.linkDeps,
				joinChannel: async (_ctx, nodeId, _hello, node) => {
					node.send({ case: 'accepted', value: {} });
					return { onFrame: () => {}, onClosed: () => left.push(nodeId) };
				},
			},
			{ host: '127.0.0.1', port: 0, identity: world.gatewayIdentity, wire },
		);
		await using relay = await DelayRelay.listen({ host: '127.0.0.1', port: noticing.port });
		const connection = new GrpcTransport(systemClock, wire).open(targetOf(identity, `127.0.0.1:${relay.port}`));
		// Opened again where a busy machine is slower than the keepalive.
		const accepted = () => {
			let talk: Talk | undefined;
			return eventually('it is accepted', () => {
				if (talk === undefined || talk.ends.length > 0) {
					talk = ourTalk(connection);
					talk.send(hello());
				}
				return talk.frames.length === 1 && talk;
			});
		};
		const talk = await accepted();
		const before = left.length;
		relay.halfOpen(true);
		await eventually('the agent has let go', () => talk.ends.length === 1);
		await eventually('the gateway has let go', () => left.length > before);
		expect(talk.ends).toMatchObject([{ code: 'UNAVAILABLE' }]);
		relay.halfOpen(false);
		// The next stream is on the next connection.
		await accepted();
		connection.close();
		await noticing[Symbol.asyncDispose]();
	});
});

describe('a gateway that does not answer', () => {
	test('to a dial: all channels end, and it is dialled again when it is time', async () => {
		await using mute = await silentPeer();
		const limits = { dialTimeoutMs: 300, keepaliveMs: 50, keepaliveTimeoutMs: 50 };
		const connection = new GrpcTransport(systemClock, limits).open(targetOf(identity, `127.0.0.1:${mute.port}`));
		const talks = [ourTalk(connection), ourTalk(connection)];
		talks[0]?.send(hello());
		await eventually('both are over', () => talks.every(({ ends }) => ends.length === 1));
		expect(talks[0]?.ends).toMatchObject([{ code: 'UNAVAILABLE' }]);
		expect(talks[0]?.ends[0]?.message).toContain('did not answer within 0.3 s');
		const next = ourTalk(connection);
		await eventually('the next is over too', () => next.ends.length === 1);
		expect(next.ends[0]?.retryAfterMs).toBeGreaterThan(0);
		connection.close();
	});

	test('to a dial: a channel that is cancelled meanwhile ends at once, and so do the others with the connection', async () => {
		await using mute = await silentPeer();
		const connection = new GrpcTransport(systemClock).open(targetOf(identity, `127.0.0.1:${mute.port}`));
		const [first, second] = [ourTalk(connection), ourTalk(connection)];
		first.cancel();
		await eventually('it is over', () => first.ends.length === 1);
		expect(second.ends).toEqual([]);
		connection.close();
		await eventually('the other is over', () => second.ends.length === 1);
		expect([first, second].map(({ ends }) => ends[0]?.code)).toEqual(['CANCELLED', 'CANCELLED']);
	});

	test('any more, after it said that it takes no new streams: the old ones go on until then', async () => {
		const { chainPem: cert, keyPem: key } = world.gatewayIdentity;
		let isLeaving = false;
		let probes = 0;
		const leaving = createSecureServer({ cert, key });
		leaving.on('session', (session) => {
			session.on('error', () => {});
			session.once('goaway', () => {
				isLeaving = true;
			});
			session.on('remoteSettings', () => {
				if (isLeaving) probes += 1;
			});
		});
		leaving.on('stream', (stream) => {
			stream.on('error', () => {});
			stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
			stream.session?.goaway(constants.NGHTTP2_NO_ERROR, stream.id ?? 0);
		});
		leaving.listen(0, '127.0.0.1');
		await once(leaving, 'listening');
		const { port } = leaving.address() as { readonly port: number };
		await using relay = await DelayRelay.listen({ host: '127.0.0.1', port });
		const limits = { keepaliveMs: 200, keepaliveTimeoutMs: 6000 };
		const connection = new GrpcTransport(systemClock, limits).open(targetOf(identity, `127.0.0.1:${relay.port}`));
		const talk = ourTalk(connection);
		// The second is sent only when the first was answered.
		await eventually('it is asked whether it is there, and answers', () => probes >= 2);
		expect(talk.ends).toEqual([]);
		relay.halfOpen(true);
		await eventually('the agent has let go', () => talk.ends.length === 1);
		expect(talk.ends).toMatchObject([{ code: 'UNAVAILABLE' }]);
		connection.close();
		leaving.close();
	});

	test('with a status: a stream that ends without one is over', async () => {
		const { chainPem: cert, keyPem: key } = world.gatewayIdentity;
		const wordless = createSecureServer({ cert, key });
		wordless.on('stream', (stream) => {
			stream.on('error', () => {});
			stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
			stream.end();
		});
		wordless.listen(0, '127.0.0.1');
		await once(wordless, 'listening');
		const { port } = wordless.address() as { readonly port: number };
		const connection = new GrpcTransport(systemClock).open(targetOf(identity, `127.0.0.1:${port}`));
		const talk = ourTalk(connection);
		await eventually('it is over', () => talk.ends.length === 1);
		expect(talk.ends).toMatchObject([{ code: 'UNAVAILABLE' }]);
		expect(talk.ends[0]?.message).toContain('without a status');
		connection.close();
		wordless.close();
	});
});

describe('whom an agent opens channels to', () => {
	test('not a node that poses as a gateway', async () => {
		const { chainPem, keyPem } = (await world.enroll()).credential();
		const posing = await startGateway(
			{ ...world.linkDeps, joinChannel },
			{
				host: '127.0.0.1',
				port: 0,
				identity: { chainPem, keyPem, clientAnchorsPem: identity.bundle().trustAnchorsPem },
			},
		);
		const connection = new GrpcTransport(systemClock).open(targetOf(identity, `127.0.0.1:${posing.port}`));
		const talk = ourTalk(connection);
		talk.send(hello());
		await eventually('it is refused', () => talk.ends.length === 1);
		expect(talk.ends[0]?.message).toContain('a node certificate was presented where only a replica certificate');
		expect(talk.frames).toEqual([]);
		connection.close();
		await posing[Symbol.asyncDispose]();
	});

	test('many channels together dial once, and not again before it is time', async () => {
		let dials = 0;
		const server = createTcpServer((socket) => {
			dials += 1;
			socket.destroy();
		}).listen(0, '127.0.0.1');
		await once(server, 'listening');
		const { port } = server.address() as { readonly port: number };
		// On which it is not time, however long this machine stands still.
		const clock = { ...systemClock, monotonic: () => 0 };
		const connection = new GrpcTransport(clock).open(targetOf(identity, `127.0.0.1:${port}`));
		const talks = Array.from({ length: 20 }, () => ourTalk(connection));
		await eventually('all are over', () => talks.every(({ ends }) => ends.length === 1));
		const next = ourTalk(connection);
		await eventually('the next is over too', () => next.ends.length === 1);
		expect(next.ends[0]?.code).toBe('UNAVAILABLE');
		expect(next.ends[0]?.retryAfterMs).toBeGreaterThan(0);
		expect(dials).toBe(1);
		connection.close();
		server.close();
	});

	test('not an address that is none', async () => {
		const connection = new GrpcTransport(systemClock).open(targetOf(identity, 'gateway'));
		const talk = ourTalk(connection);
		await eventually('it is over', () => talk.ends.length === 1);
		expect(talk.ends[0]?.message).toContain('host:port');
		connection.close();
	});
});
