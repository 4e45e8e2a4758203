import { createServer as createHttp1 } from 'node:http';
import { connect as connectHttp2, constants, createServer as createHttp2 } from 'node:http2';
import { type AddressInfo, connect as connectTcp, type Server } from 'node:net';
import { create } from '@bufbuild/protobuf';
import { createContextValues } from '@connectrpc/connect';
import { afterEach, expect, test, vi } from 'vitest';
import { connectAdapter } from '../../control-plane/connect/adapter.ts';
import { createLogger } from '../../kit/log.ts';
import { GetHealthResponseSchema, SystemService } from '../../proto/gen/gpuaas/system/v1/system_pb.ts';
import { eventually } from '../eventually.ts';
import { ApiWorld } from './api-world.ts';

/** What becomes of an answer that its caller doesn't take to its end. */
const PATH = `/${SystemService.typeName}/GetHealth`;
/** More than sockets hold. */
const LONG = 'x'.repeat(32 * 1024 * 1024);

interface Unsent {
	readonly path: string | undefined;
	readonly error: unknown;
	readonly isGone: boolean;
}

const console = vi.spyOn(globalThis.console, 'error');
const unsent: Unsent[] = [];
const servers: Server[] = [];

afterEach(() => {
	for (const server of servers.splice(0)) server.close();
	unsent.length = 0;
	console.mockClear();
});

function adapter() {
	return connectAdapter({
		routes: (router) =>
			router.service(SystemService, {
				getHealth: () => create(GetHealthResponseSchema, { checks: [{ name: 'long', message: LONG }] }),
			}),
		contextValues: () => createContextValues(),
		fallback: (_request, response) => void response.end(),
		onUnsent: ({ url }, error, isGone) => void unsent.push({ path: url, error, isGone }),
	});
}

async function listening<S extends Server>(server: S): Promise<number> {
	servers.push(server);
	await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
	return (server.address() as AddressInfo).port;
}

test('a caller on HTTP/2 who resets an answer is told to whoever logs, and nothing goes to the console', async () => {
	const server = createHttp2();
	server.on('request', adapter());
	const client = connectHttp2(`http://127.0.0.1:${await listening(server)}`);
	const headers = { ':method': 'POST', ':path': PATH, 'content-type': 'application/json' };
	const stream = client.request(headers);
	stream.on('error', () => {});
	stream.end('{}');
	stream.once('response', () => stream.close(constants.NGHTTP2_INTERNAL_ERROR));
	await eventually('it is told', () => unsent.length > 0);
	client.destroy();
	expect(unsent).toMatchObject([{ path: PATH, isGone: true }]);
	expect(console).not.toHaveBeenCalled();
});

test('the API says at debug alone that its caller left', async () => {
	const lines: Record<string, unknown>[] = [];
	const destination = { write: (line: string) => void lines.push(JSON.parse(line)) };
	await using world = await ApiWorld.start({ log: createLogger({ name: 'test', level: 'debug', destination }) });
	// More than a stream takes at once.
	for (let nodes = 0; nodes < 40; nodes += 1) await world.addNode({ labels: { rack: 'r'.repeat(5000) } });
	// It takes headers and nothing of an answer.
	const client = connectHttp2(world.url, { ca: world.rootPem, settings: { initialWindowSize: 0 } });
	const stream = client.request({
		':method': 'POST',
		':path': '/gpuaas.nodes.v1.NodeService/ListNodes',
		'content-type': 'application/json',
		authorization: `Bearer ${world.operatorKey}`,
	});
	stream.on('error', () => {});
	stream.end('{}');
	stream.once('response', () => stream.close(constants.NGHTTP2_INTERNAL_ERROR));
	const ofIt = () => lines.filter(({ message }) => message === 'a caller left while they were answered');
	await eventually('it is told', () => ofIt().length > 0);
	client.destroy();
	expect(ofIt()).toMatchObject([{ level: 'debug', path: '/gpuaas.nodes.v1.NodeService/ListNodes' }]);
	expect(lines.filter(({ level }) => level === 'error')).toEqual([]);
	expect(console).not.toHaveBeenCalled();
});

test('a caller on HTTP/1.1 who leaves during an answer is told to whoever logs, and nothing goes to the console', async () => {
	const port = await listening(createHttp1(adapter()));
	const socket = connectTcp(port, '127.0.0.1');
	socket.write(`POST ${PATH} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}`);
	socket.once('data', () => socket.resetAndDestroy());
	await eventually('it is told', () => unsent.length > 0);
	expect(unsent).toMatchObject([{ path: PATH, isGone: true }]);
	expect(console).not.toHaveBeenCalled();
});
