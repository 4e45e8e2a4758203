import { once } from 'node:events';
import { type ClientHttp2Session, connect as connectHttp2, constants } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { describe, expect, test } from 'vitest';
import { apiMethods } from '../../control-plane/api/methods.ts';
import { API_USE_CASES } from '../../control-plane/api/use-cases.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { AgentLinkService } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { TaskService } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { TokenService } from '../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { eventually } from '../eventually.ts';
import { ApiWorld } from './api-world.ts';
import { rawCall } from './raw-api.ts';
import { openAndReset, opening } from './raw-http2.ts';
import { refusalOf } from './refusal.ts';

const VERSION = '/gpuaas.system.v1.SystemService/GetVersion';
const LIST_NODES = '/gpuaas.nodes.v1.NodeService/ListNodes';
const CREATE_TASK = '/gpuaas.tasks.v1.TaskService/CreateTask';

async function tls(world: ApiWorld, options: object = {}): Promise<TLSSocket> {
	const { port } = world.server.address;
	const socket = connectTls({ host: '127.0.0.1', port, ca: world.rootPem, ...options });
	await once(socket, 'secureConnect');
	socket.on('error', () => {});
	return socket;
}

async function http2(world: ApiWorld): Promise<ClientHttp2Session> {
	// Node's own client sends 64 KiB of headers at most.
	const session = connectHttp2(world.url, { ca: world.rootPem, maxSendHeaderBlockLength: 1024 * 1024 });
	session.on('error', () => {});
	const cut = closed(session).then(() => Promise.reject(new Error('it was cut')));
	await Promise.race([once(session, 'connect'), cut]);
	return session;
}

/** Under limits that a busy machine may exceed by itself. */
async function atLast<T>(connect: () => Promise<T>): Promise<T> {
	return (await eventually('a connection', async () => ({ made: await connect() }))).made;
}

/** Its status, or the HTTP/2 code that ended it or its connection. */
function outcomeOf(session: ClientHttp2Session, headers: Readonly<Record<string, string>>): Promise<unknown> {
	const stream = session.request({
		':method': 'POST',
		':path': VERSION,
		'content-type': 'application/json',
		...headers,
	});
	stream.on('error', () => {});
	stream.resume();
	stream.end('{}');
	return new Promise((resolve) => {
		session.once('goaway', resolve);
		stream.on('response', (answer) => resolve(answer[':status']));
		stream.on('close', () => resolve(stream.rstCode));
	});
}

/** The listener still serves: what was done to it hurt nobody else. */
async function stillServes(world: ApiWorld): Promise<void> {
	const { version } = await atLast(() => world.client(SystemService).getVersion({}));
	expect(version).toBe('0.1.0');
}

describe('the table of methods', () => {
	test('a method that nobody serves, or two, or another listener, stops the start', () => {
		expect(() => apiMethods(API_USE_CASES.slice(1))).toThrow('is served by nobody');
		expect(() => apiMethods([...API_USE_CASES, present(API_USE_CASES[0], 'one')])).toThrow('is served by two');
		expect(() => apiMethods(API_USE_CASES, [AgentLinkService])).toThrow('not for callers of the API listener');
	});
});

describe('protocols', () => {
	test('gRPC and gRPC-web, HTTP/1.1 and 2, with typed errors', async () => {
		await using world = await ApiWorld.start();
		const nodeOptions = { ca: world.rootPem };
		const transports = [
			createGrpcTransport({ baseUrl: world.url, nodeOptions }),
			createGrpcWebTransport({ baseUrl: world.url, httpVersion: '2', nodeOptions }),
			createGrpcWebTransport({ baseUrl: world.url, httpVersion: '1.1', nodeOptions }),
		];
		for (const transport of transports) {
			expect((await createClient(SystemService, transport).getVersion({})).version).toBe('0.1.0');
			const refused = await refusalOf(createClient(NodeService, transport).listNodes({}));
			expect(refused).toMatchObject({ code: 'Unauthenticated', reason: 'UNAUTHENTICATED', domain: 'gpuaas' });
			expect(refused.error.metadata.get('x-correlation-id')).toMatch(/^[0-9a-f-]{36}$/);
		}
	});

	test('TLS 1.2 and 1.3 are spoken, 1.1 is not', async () => {
		await using world = await ApiWorld.start();
		for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
			const socket = await tls(world, { minVersion: version, maxVersion: version });
			expect(socket.getProtocol()).toBe(version);
			socket.destroy();
		}
		const old = connectTls({
			host: '127.0.0.1',
			port: world.server.address.port,
			ca: world.rootPem,
			minVersion: 'TLSv1.1',
			maxVersion: 'TLSv1.1',
			ciphers: 'DEFAULT@SECLEVEL=0',
		});
		await expect(once(old, 'secureConnect')).rejects.toThrow();
	});

	test('a correlation id is taken over when it is sane, and replaced when not', async () => {
		await using world = await ApiWorld.start();
		const ask = (id: string) => rawCall(world, { path: VERSION, body: '{}', headers: { 'x-correlation-id': id } });
		expect((await ask('ticket-4711')).headers['x-correlation-id']).toBe('ticket-4711');
		for (const bad of ['a b', 'x'.repeat(65), '<script>'])
			expect((await ask(bad)).headers['x-correlation-id']).toMatch(/^[0-9a-f-]{36}$/);
	});
});

describe('credentials of other doors', () => {
	test('a join token calls nothing, and the answer says what it is for', async () => {
		await using world = await ApiWorld.start();
		const made = await world.client(TokenService, world.operatorKey).createToken({ nodeName: 'gpu-02' });
		expect(made.joinToken).toMatch(/^gpu_jt_/);
		for (const path of [LIST_NODES, CREATE_TASK, '/gpuaas.system.v1.SystemService/WhoAmI']) {
			const answer = await rawCall(world, { path, body: '{}', key: made.joinToken });
			expect(answer.status).toBe(401);
			expect(JSON.parse(answer.body.toString()).message).toContain('this is a join token');
		}
	});
});

describe('what is not a request of ours', () => {
	test('is answered as that, and hurts nobody', async () => {
		await using world = await ApiWorld.start();
		const key = world.operatorKey;
		const answers = [
			await rawCall(world, { path: CREATE_TASK, body: '{"node": ', key }),
			// Only misspelt: without that field there would be an answer.
			await rawCall(world, { path: LIST_NODES, body: '{"pageSizee": 5}', key }),
			await rawCall(world, { path: CREATE_TASK, body: '[1,2]', key }),
		];
		for (const { status, body } of answers) {
			expect(status).toBe(400);
			expect(JSON.parse(body.toString())).toMatchObject({ code: 'invalid_argument' });
		}
		const bytes = { body: Buffer.alloc(100, 0xff), key, headers: { 'content-type': 'application/proto' } };
		expect((await rawCall(world, { path: CREATE_TASK, ...bytes })).status).toBeGreaterThanOrEqual(400);
		const html = { 'content-type': 'text/html' };
		for (const [status, answer] of [
			[404, await rawCall(world, { path: '/nowhere', body: '' })],
			[415, await rawCall(world, { path: VERSION, body: '{}', headers: html })],
			[405, await rawCall(world, { path: CREATE_TASK, body: '', method: 'GET' })],
			[405, await rawCall(world, { path: `${CREATE_TASK}?encoding=json&message=%7B%7D`, body: '', method: 'GET' })],
			[405, await rawCall(world, { path: `${CREATE_TASK}?x`, body: '{}', method: 'PUT', key })],
			[415, await rawCall(world, { path: `${VERSION}?x`, body: '{}', headers: html })],
			[405, await rawCall(world, { path: CREATE_TASK, body: '{}', method: 'PUT', key })],
		] as const) {
			expect(answer.status).toBe(status);
			const { code, message } = JSON.parse(answer.body.toString());
			expect([code, message]).toEqual([
				expect.stringMatching(/^(unimplemented|invalid_argument)$/),
				expect.any(String),
			]);
			expect(message).toMatch(/send /);
		}
		await stillServes(world);
	});

	test('an authority that makes no URL is refused, not an uncaught error', async () => {
		await using world = await ApiWorld.start();
		const hosts = ['x:99999999', '[', 'a b', ''];
		for (const host of hosts) {
			const socket = await tls(world);
			socket.write(
				`POST ${VERSION} HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}`,
			);
			const [answer] = (await once(socket, 'data')) as [Buffer];
			expect(answer.toString()).toMatch(/^HTTP\/1.1 (200|400)/);
			socket.destroy();
		}
		await stillServes(world);
	});
});

describe('sizes', () => {
	test('a request larger than the limit is refused with its reason', async () => {
		await using world = await ApiWorld.start({ api: { requestBytesMax: 10_000 } });
		const answer = await rawCall(world, { path: CREATE_TASK, body: `"${'x'.repeat(20_000)}"`, key: world.operatorKey });
		expect(answer.status).toBe(429);
		expect(JSON.parse(answer.body.toString())).toMatchObject({ code: 'resource_exhausted' });
	});

	test('a body is not read for somebody without a credential', async () => {
		await using world = await ApiWorld.start({ api: { requestBodyTimeoutMs: 600_000 } });
		const session = await http2(world);
		const stream = session.request({ ':method': 'POST', ':path': LIST_NODES, 'content-type': 'application/json' });
		// The body never comes; the answer does.
		const [headers] = (await once(stream, 'response')) as [Record<string, unknown>];
		expect(headers[':status']).toBe(401);
		session.destroy();
	});

	test('headers beyond their limit end the request, on HTTP/1.1 and 2', async () => {
		await using world = await ApiWorld.start();
		const large = { 'x-large': 'y'.repeat(40_000) };
		const long = await rawCall(world, { path: VERSION, body: '{}', headers: large });
		expect(long.status).toBe(431);
		expect(JSON.parse(long.body.toString())).toMatchObject({ code: 'resource_exhausted' });
		const session = await http2(world);
		// One header, and many small ones: the stream ends with what clients read as RESOURCE_EXHAUSTED, and no other.
		const many = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`x-${index}`, 'y'.repeat(9000)]));
		const tooMany = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`x-${index}`, 'y']));
		for (const headers of [large, many, tooMany])
			expect([431, constants.NGHTTP2_ENHANCE_YOUR_CALM]).toContain(await outcomeOf(session, headers));
		expect(await outcomeOf(session, {})).toBe(200);
		// What nghttp2 can't unpack costs the connection, as limits.ts says: this one, and no other.
		expect(await outcomeOf(session, { 'x-large': 'y'.repeat(90_000) })).toBe(constants.NGHTTP2_COMPRESSION_ERROR);
		expect(session.destroyed).toBe(true);
		await stillServes(world);
	});
});

describe('rates', () => {
	test('a principal above its rate is told when to come back, and another one is not touched', async () => {
		const slow = { perSecond: 0.001, burst: 2 };
		await using world = await ApiWorld.start({ api: { perPrincipal: { read: slow, write: slow, stream: slow } } });
		const client = world.client(NodeService, world.operatorKey);
		await client.listNodes({});
		await client.listNodes({});
		const refused = await refusalOf(client.listNodes({}));
		expect(refused).toMatchObject({ code: 'ResourceExhausted', reason: 'RATE_LIMITED' });
		expect(Number(refused.error.metadata.get('retry-after'))).toBeGreaterThan(100);
		const other = await world.addPrincipal('user', 'platform.viewer', 'platform');
		await world.client(NodeService, other).listNodes({});
		// Writes have a bucket of their own.
		expect(await refusalOf(world.client(TaskService, world.operatorKey).createTask({ node: 'n' }))).not.toMatchObject({
			reason: 'RATE_LIMITED',
		});
	});

	test('an address above its rate is refused before its credential is looked at', async () => {
		await using world = await ApiWorld.start({ api: { perAddress: { perSecond: 0.001, burst: 1 } } });
		await world.client(SystemService).getVersion({});
		expect(await refusalOf(world.client(NodeService, 'gpu_uk_garbage').listNodes({}))).toMatchObject({
			reason: 'RATE_LIMITED',
		});
	});
});

/** Asked for at once: whoever asks after the end waits for ever. */
function closed(end: { once(event: 'close', listener: () => void): unknown }): Promise<void> {
	return new Promise((resolve) => void end.once('close', resolve));
}

describe('connections', () => {
	test('of one address are bounded, and one that ends makes room', async () => {
		await using world = await ApiWorld.start({ api: { connectionsPerAddressMax: 2 } });
		const first = await tls(world);
		const second = await tls(world);
		await expect(tls(world)).rejects.toThrow();
		first.destroy();
		const third = await eventually('room', () => tls(world).catch(() => undefined));
		second.destroy();
		third.destroy();
	});

	test('silence costs the connection: in the handshake, and where a PING gets no answer', async () => {
		const api = { tlsHandshakeTimeoutMs: 1000, headersTimeoutMs: 600_000, connectionIdleTimeoutMs: 600_000 };
		await using world = await ApiWorld.start({ api: { ...api, pingPeriodMs: 100, pingTimeoutMs: 500 } });
		const silent = connectTcp(world.server.address.port, '127.0.0.1').resume();
		silent.on('error', () => {});
		const stranger = connectTcp(world.server.address.port, '127.0.0.1').resume();
		stranger.on('error', () => {});
		stranger.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
		await Promise.all([closed(silent), closed(stranger)]);
		// It reads what it is sent, and says nothing to it.
		const deaf = (await atLast(() => tls(world, { ALPNProtocols: ['h2'] }))).resume();
		const gone = closed(deaf);
		deaf.write(opening());
		await gone;
		await stillServes(world);
	});

	test('slow-loris: headers that never end cost the connection', async () => {
		await using world = await ApiWorld.start({
			// The limit of a whole request shall not be what cuts it.
			api: { headersTimeoutMs: 200, requestBodyTimeoutMs: 600_000, connectionIdleTimeoutMs: 300 },
		});
		// A socket that is not read never hears that it was closed.
		const silent = closed((await atLast(() => tls(world))).resume());
		const trickle = (await atLast(() => tls(world))).resume();
		const trickled = closed(trickle);
		trickle.write(`POST ${VERSION} HTTP/1.1\r\nHost: x\r\nX-`);
		const session = closed(await atLast(() => http2(world)));
		await Promise.all([silent, trickled, session]);
		await stillServes(world);
	});

	test('slow-loris: a body that never ends costs the request, on HTTP/1.1 and 2', async () => {
		await using world = await ApiWorld.start({ api: { requestBodyTimeoutMs: 200 } });
		const auth = `Authorization: Bearer ${world.operatorKey}`;
		const socket = await tls(world);
		socket.write(
			`POST ${LIST_NODES} HTTP/1.1\r\nHost: x\r\n${auth}\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{`,
		);
		const gone = closed(socket.resume());
		const session = await http2(world);
		const stream = session.request({
			':method': 'POST',
			':path': LIST_NODES,
			'content-type': 'application/json',
			authorization: `Bearer ${world.operatorKey}`,
		});
		stream.on('error', () => {});
		stream.write('{');
		await Promise.all([gone, closed(stream)]);
		session.destroy();
		await stillServes(world);
	});

	test('rapid reset: a connection that opens streams only to reset them is cut', async () => {
		await using world = await ApiWorld.start({
			api: { resetsBurstPerConnection: 20, resetsPerSecondPerConnection: 1 },
		});
		const socket = await tls(world, { ALPNProtocols: ['h2'] });
		// Not once(): the writes that come too late are errors, and expected.
		const closed = new Promise((resolve) => socket.once('close', resolve));
		socket.resume();
		socket.write(opening());
		let opened = 0;
		while (socket.writable && opened < 2000) {
			socket.write(openAndReset(2 * opened + 1, LIST_NODES, 'localhost'));
			opened += 1;
			if (opened % 10 === 0) await new Promise<void>((resolve) => systemClock.defer(resolve));
		}
		await closed;
		expect(world.registry.render()).toContain('gpuaas_api_connections_refused_total{why="resets"} 1');
		await stillServes(world);
	});

	test('a client that cancels a few of its calls keeps its connection', async () => {
		await using world = await ApiWorld.start();
		const session = await http2(world);
		for (let index = 0; index < 20; index += 1) {
			const stream = session.request({ ':method': 'POST', ':path': LIST_NODES });
			stream.on('error', () => {});
			// An answer may have come before; unread, it would keep the stream open here.
			stream.resume();
			stream.once('ready', () => stream.close(constants.NGHTTP2_CANCEL));
			await once(stream, 'close');
		}
		expect(session.destroyed).toBe(false);
		session.destroy();
	});
});

describe('shutting down', () => {
	test('ends streams with UNAVAILABLE, lets calls end, and takes nothing new', async () => {
		const world = await ApiWorld.start();
		const node = await world.addNode();
		const tasks = world.client(TaskService, world.operatorKey);
		const spec = { kind: { case: 'run' as const, value: { argv: ['/bin/true'] } } };
		const { task } = await tasks.createTask({ node: node.id, spec });
		let seen = 0;
		const followed = refusalOf(
			(async () => {
				for await (const _ of tasks.followTask({ taskId: task?.id ?? '' })) seen += 1;
			})(),
		);
		await eventually('the stream is open', () => seen === 1);
		const url = world.url;
		await world[Symbol.asyncDispose]();
		expect(await followed).toMatchObject({ code: 'Unavailable', reason: 'SHUTTING_DOWN' });
		const session = connectHttp2(url, { ca: world.rootPem });
		await expect(once(session, 'connect')).rejects.toThrow();
	});
});
