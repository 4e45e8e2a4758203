import { gzipSync } from 'node:zlib';
import { create, toBinary } from '@bufbuild/protobuf';
import { createClient, type Interceptor } from '@connectrpc/connect';
import { createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { present } from '../../kit/assert.ts';
import { CreateTaskRequestSchema, TaskService } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { ApiWorld } from './api-world.ts';
import { enveloped, type RawCall, rawCall } from './raw-api.ts';
import { refusalOf } from './refusal.ts';

/** Requests that cannot be read: refused whole, in every protocol, with a reason and what to do. */
const CREATE_TASK = '/gpuaas.tasks.v1.TaskService/CreateTask';
const FOLLOW_TASK = '/gpuaas.tasks.v1.TaskService/FollowTask';
const PROTO = { 'content-type': 'application/proto' };

let world: ApiWorld;
let nodeId: string;
beforeAll(async () => {
	world = await ApiWorld.start({ api: { requestBytesMax: 10_000 } });
	nodeId = (await world.addNode()).id;
});
afterAll(() => world[Symbol.asyncDispose]());

interface ErrorJson {
	readonly code: string;
	readonly message: string;
	readonly details?: readonly { readonly type: string; readonly debug?: { readonly reason?: string } }[];
}

async function refused(call: Omit<RawCall, 'key' | 'path'> & { readonly path?: string }) {
	const answer = await rawCall(world, { path: CREATE_TASK, key: world.operatorKey, ...call });
	const { code, message, details } = JSON.parse(answer.body.toString()) as ErrorJson;
	const [info] = present(details, 'the error has details');
	return { status: answer.status, code, message, type: info?.type, reason: info?.debug?.reason };
}

const INVALID = { status: 400, code: 'invalid_argument', type: 'google.rpc.ErrorInfo', reason: 'INVALID_REQUEST' };

/** A request that would be fine but for the bytes of its one argument. */
function withArgument(argument: Buffer): Buffer {
	const [before = '', after = ''] = JSON.stringify({ node: nodeId, spec: { run: { argv: ['/bin/echo', '@'] } } }).split(
		'@',
	);
	return Buffer.concat([Buffer.from(before), argument, Buffer.from(after)]);
}

const tasksOf = async () =>
	(await world.client(TaskService, world.operatorKey).listTasks({ node: nodeId })).tasks.length;

describe('text that is not UTF-8', () => {
	test('is refused in JSON, and no task comes of it; U+FFFD itself is text', async () => {
		const answer = await refused({ body: withArgument(Buffer.from([0xff, 0xfe])) });
		expect(answer).toMatchObject(INVALID);
		expect(answer.message).toMatch(/not valid UTF-8; correct it: the body is JSON in UTF-8/);
		expect(await tasksOf()).toBe(0);
		const fine = { path: CREATE_TASK, key: world.operatorKey, body: withArgument(Buffer.from('\ufffd\u00e9')) };
		expect((await rawCall(world, fine)).status).toBe(200);
		expect(await tasksOf()).toBe(1);
	});

	test('is refused in protobuf and as half a surrogate pair', async () => {
		const before = await tasksOf();
		const spec = { kind: { case: 'run' as const, value: { argv: ['/bin/echo', '@@'] } } };
		const bytes = Buffer.from(
			toBinary(CreateTaskRequestSchema, create(CreateTaskRequestSchema, { node: nodeId, spec })),
		);
		bytes.set([0xff, 0xfe], bytes.indexOf('@@'));
		expect(await refused({ body: bytes, headers: PROTO })).toMatchObject(INVALID);
		expect(await refused({ body: withArgument(Buffer.from('\\ud800')) })).toMatchObject(INVALID);
		expect(await tasksOf()).toBe(before);
	});
});

describe('what cannot be read', () => {
	test.each<[string, Omit<RawCall, 'key' | 'path'>, RegExp]>([
		['half a JSON document', { body: '{"node": ' }, /correct it/],
		['an unknown field', { body: '{"node": "n", "spce": {}}' }, /key "spce" is unknown; correct it/],
		['JSON of another type', { body: '[1,2]' }, /correct it/],
		['bytes that are no protobuf', { body: Buffer.alloc(100, 0xff), headers: PROTO }, /correct it/],
		['bytes that are no gzip', { body: 'not gzip', headers: { 'content-encoding': 'gzip' } }, /correct it/],
	])('%s is the caller’s error', async (_what, call, message) => {
		const answer = await refused(call);
		expect(answer).toMatchObject(INVALID);
		expect(answer.message).toMatch(message);
	});

	test('more bytes than the limit, plain or compressed, are refused with what to do', async () => {
		const large = { status: 429, code: 'resource_exhausted', type: 'google.rpc.ErrorInfo', reason: 'INVALID_REQUEST' };
		const plain = await refused({ body: `"${'x'.repeat(20_000)}"` });
		expect(plain).toMatchObject(large);
		expect(plain.message).toMatch(/10000; send less in one request/);
		const bomb = gzipSync(Buffer.alloc(5_000_000));
		const small = await refused({ body: bomb, headers: { 'content-encoding': 'gzip' } });
		expect(small).toMatchObject(large);
		expect(small.message).toMatch(/after decompression; send less/);
	});

	test('a compression or a method that is not spoken has its reason too', async () => {
		const zip = await refused({ body: 'x', headers: { 'content-encoding': 'zip' } });
		expect(zip).toMatchObject({ code: 'unimplemented', reason: 'INVALID_REQUEST' });
		const nowhere = await refused({ path: '/nowhere', body: '' });
		expect(nowhere).toMatchObject({ status: 404, code: 'unimplemented', reason: 'INVALID_REQUEST' });
	});

	test('on a stream and in gRPC and gRPC-web it is the same', async () => {
		const body = enveloped('{"taskId": "t", "frmo": 1}');
		const headers = { 'content-type': 'application/connect+json' };
		const answer = await rawCall(world, { path: FOLLOW_TASK, key: world.operatorKey, body, headers });
		expect(answer.body.subarray(5).toString()).toMatch(/"code":"invalid_argument".*"reason":"INVALID_REQUEST"/);
		const authorize: Interceptor = (next) => (request) => {
			request.header.set('authorization', `Bearer ${world.operatorKey}`);
			return next(request);
		};
		const options = { baseUrl: world.url, nodeOptions: { ca: world.rootPem }, interceptors: [authorize] };
		const web = createGrpcWebTransport({ ...options, httpVersion: '2' });
		for (const transport of [createGrpcTransport(options), web]) {
			const call = createClient(TaskService, transport).createTask({ node: 'x'.repeat(20_000) });
			const refusal = await refusalOf(call);
			expect(refusal).toMatchObject({ code: 'ResourceExhausted', reason: 'INVALID_REQUEST', domain: 'gpuaas' });
			expect(refusal.message).toMatch(/send less in one request/);
		}
	});

	test('is counted once, under its code', async () => {
		const count = () => {
			const line = world.registry
				.render()
				.match(/^gpuaas_api_requests_total\{.*CreateTask".*INVALID_ARGUMENT"\} (\d+)$/m);
			return Number(line?.[1] ?? 0);
		};
		const before = count();
		await refused({ body: '{' });
		await refused({ body: '{}' });
		expect(count()).toBe(before + 2);
	});
});
