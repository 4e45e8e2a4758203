import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { systemRng } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { ChannelRequestSchema, type ChannelResponse } from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { SessionRegistry } from '../app/sessions/registry.ts';
import type { NodeEnd } from '../app/terminals/node-end.ts';
import { protocol } from '../app/terminals/node-output.ts';
import { Channels } from './channel.ts';
import type { LinkDeps } from './link-deps.ts';
import type { ServerStream } from './stream.ts';

const NODE = '0198a1b2-0000-7000-8000-000000000001';

test('a stream that is closed while it is authorized counts against nobody', async () => {
	const registry = new SessionRegistry();
	let joined = 0;
	let authorize: (peer: object) => void = () => {};
	const authorized = new Promise((resolve) => {
		authorize = resolve;
	});
	const channels = new Channels({
		app: { clock: new VirtualClock(), rng: systemRng, log: silentLogger },
		registry,
		limits: { helloTimeoutMs: 1000 },
		authorizeStream: () => authorized,
		joinChannel: async () => {
			joined += 1;
			return { onFrame: () => {}, onClosed: () => {} };
		},
	} as unknown as LinkDeps);
	const stream = { peer: '', leafDer: new Uint8Array(), send: () => true, end: () => {} };
	const listener = channels.accept(stream as unknown as ServerStream<ChannelResponse>);
	const hello = { channelId: '0198a1b2-0000-7000-8000-000000000002', generation: 1 };
	listener.onFrame(create(ChannelRequestSchema, { message: { case: 'hello', value: hello } }));
	listener.onClosed();
	authorize({ kind: 'accepted', nodeId: NODE, serial: '1', notAfterMs: Number.MAX_SAFE_INTEGER });
	await new Promise(setImmediate);
	expect({ attached: registry.attachedCount(NODE), joined }).toEqual({ attached: 0, joined: 0 });
});

test('of sizes and signals for a node that reads nothing the last of each is kept', async () => {
	const sent: ChannelResponse['message'][] = [];
	let isRead = true;
	const { promise: joined, resolve: join } = Promise.withResolvers<NodeEnd>();
	const channels = new Channels({
		app: { clock: new VirtualClock(), rng: systemRng, log: silentLogger },
		registry: new SessionRegistry(),
		limits: { helloTimeoutMs: 1000 },
		authorizeStream: async () => ({ kind: 'accepted', nodeId: NODE, serial: '1', notAfterMs: 1 }),
		joinChannel: async (_ctx: unknown, _nodeId: string, _hello: unknown, node: NodeEnd) => {
			join(node);
			return { onFrame: () => {}, onClosed: () => {} };
		},
	} as unknown as LinkDeps);
	const send = ({ message }: ChannelResponse) => {
		sent.push(message);
		return isRead;
	};
	const stream = { peer: '', leafDer: new Uint8Array(), send, end: () => {} };
	const listener = channels.accept(stream as unknown as ServerStream<ChannelResponse>);
	const hello = { channelId: '0198a1b2-0000-7000-8000-000000000002', generation: 1 };
	listener.onFrame(create(ChannelRequestSchema, { message: { case: 'hello', value: hello } }));
	const node = await joined;
	isRead = false;
	node.send({ case: 'accepted', value: {} });
	for (let columns = 1; columns <= 1000; columns += 1) {
		node.send({ case: 'resize', value: { columns, rows: 24 } });
		node.send({ case: 'signal', value: { name: columns % 2 === 0 ? 'INT' : 'TERM' } });
	}
	expect(sent.map((message) => message.case)).toEqual(['accepted']);
	isRead = true;
	listener.onWritable();
	expect(sent.slice(1)).toMatchObject([
		{ case: 'resize', value: { columns: 1000 } },
		{ case: 'signal', value: { name: 'TERM' } },
		{ case: 'signal', value: { name: 'INT' } },
	]);
	node.send({ case: 'resize', value: { columns: 80, rows: 24 } });
	expect(sent.at(-1)).toMatchObject({ case: 'resize', value: { columns: 80 } });
});

test('a rule that is broken on one channel ends that channel, and no other of its node', async () => {
	const heard: string[] = [];
	const over: string[] = [];
	const channels = new Channels({
		app: { clock: new VirtualClock(), rng: systemRng, log: silentLogger },
		registry: new SessionRegistry(),
		limits: { helloTimeoutMs: 1000 },
		authorizeStream: async () => ({ kind: 'accepted', nodeId: NODE, serial: '1', notAfterMs: 1 }),
		joinChannel: async (_ctx: unknown, _nodeId: string, { channelId }: { channelId: string }) => ({
			onFrame: ({ case: name }: { case: string }) => {
				if (name === 'ack') throw protocol('that was never sent');
				heard.push(channelId);
			},
			onClosed: () => over.push(channelId),
		}),
	} as unknown as LinkDeps);
	const ids = ['0198a1b2-0000-7000-8000-000000000002', '0198a1b2-0000-7000-8000-000000000003'] as const;
	const ends: unknown[] = [];
	const [bad, good] = ids.map((channelId) => {
		const end = (status: unknown) => ends.push([channelId, status]);
		const stream = { peer: '', leafDer: new Uint8Array(), send: () => true, end };
		const listener = channels.accept(stream as unknown as ServerStream<ChannelResponse>);
		const say = (message: NonNullable<MessageInitShape<typeof ChannelRequestSchema>['message']>) =>
			listener.onFrame(create(ChannelRequestSchema, { message }));
		say({ case: 'hello', value: { channelId, generation: 1 } });
		return say;
	});
	await new Promise(setImmediate);
	bad?.({ case: 'ack', value: {} });
	bad?.({ case: 'output', value: {} });
	good?.({ case: 'output', value: {} });
	expect(ends).toMatchObject([[ids[0], { reason: 'INVALID_REQUEST' }]]);
	expect({ heard, over }).toEqual({ heard: [ids[1]], over: [ids[0]] });
});
