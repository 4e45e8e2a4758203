import { once } from 'node:events';
import {
	type ClientHttp2Stream,
	connect,
	constants,
	createServer,
	type Http2Server,
	type Http2ServerRequest,
	type Http2ServerResponse,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ApiSessions } from '../../cli/sessions.ts';
import { sleep, systemClock } from '../../kit/clock.ts';

/** An answer is read whole, however late its reader begins. */
let server: Http2Server;
let url: string;
beforeAll(async () => {
	server = createServer((request, response) => answer(request, response));
	server.listen(0, '127.0.0.1');
	await once(server, 'listening');
	url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => server.close());

const LONG = 1024 * 1024;

function answer({ url: path, stream }: Http2ServerRequest, response: Http2ServerResponse): void {
	stream.resume();
	if (path === '/short') response.end('hello');
	else if (path === '/empty') response.end();
	else if (path === '/long') response.end(Buffer.alloc(LONG, 'x'));
	else {
		response.write('the first');
		void sleep(systemClock, 20).then(() => stream.close(constants.NGHTTP2_CANCEL));
	}
}

async function late(stream: ClientHttp2Stream): Promise<string> {
	stream.end();
	await once(stream, 'response');
	await sleep(systemClock, 50);
	let text = '';
	for await (const chunk of stream) text += chunk;
	return text;
}

test.each([
	['/short', 'hello'],
	['/empty', ''],
	['/long', 'x'.repeat(LONG)],
])('%s', async (path, expected) => {
	const sessions = new ApiSessions(url);
	const text = await late(await sessions.request('POST', path, {}, {}));
	expect(text === expected).toBe(true);
	sessions.abort();
});

test('one that breaks off is an error', async () => {
	const sessions = new ApiSessions(url);
	const stream = await sessions.request('POST', '/broken', {}, {});
	await expect(late(stream)).rejects.toThrow('the answer broke off');
	sessions.abort();
});

test('a reader that leaves ends the stream', async () => {
	const sessions = new ApiSessions(url);
	const stream = await sessions.request('POST', '/long', {}, {});
	stream.end();
	for await (const _ of stream) break;
	expect(stream.destroyed).toBe(true);
	sessions.abort();
});

test('the pinned Node still needs it', async () => {
	const session = connect(url);
	await expect(late(session.request({ ':path': '/short', ':method': 'POST' }))).rejects.toThrow('Premature close');
	session.destroy();
});
