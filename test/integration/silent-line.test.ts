import { once } from 'node:events';
import { type ClientHttp2Stream, createServer, type Http2Server } from 'node:http2';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { Code, ConnectError } from '@connectrpc/connect';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { API_SESSION_LIMITS_DEFAULT, ApiSessions } from '../../cli/sessions.ts';
import { API_LIMITS_DEFAULT } from '../../control-plane/api/limits.ts';
import { present } from '../../kit/assert.ts';
import { DelayRelay } from '../fakes/delay-relay.ts';

/** The command's line to its control plane goes dead without a word, as when a cable is pulled. */
let server: Http2Server;
beforeAll(async () => {
	server = createServer();
	server.on('stream', (stream) => {
		stream.on('error', () => {});
		stream.respond({ ':status': 200 });
	});
	server.listen(0, '127.0.0.1');
	await once(server, 'listening');
});
afterAll(() => server.close());

const HOUR_MS = 3_600_000;

async function opened(sessions: ApiSessions): Promise<ClientHttp2Stream> {
	const stream = await sessions.request('POST', '/', {}, {});
	stream.on('error', () => {});
	await once(stream, 'response');
	return stream;
}

test('it is noticed, what is open on it ends, and the next request dials anew', async () => {
	await using relay = await DelayRelay.listen({ host: '127.0.0.1', port: (server.address() as AddressInfo).port });
	const sessions = new ApiSessions(`http://127.0.0.1:${relay.port}`, { keepaliveMs: 100, keepaliveTimeoutMs: 200 });
	const stream = await opened(sessions);
	const session = present(stream.session, 'it is open');
	relay.halfOpen(true);
	const [error] = (await once(stream, 'error')) as [unknown];
	expect(error).toMatchObject({ code: Code.Unavailable });
	expect(ConnectError.from(error).rawMessage).toBe('nothing was heard from it for 0.3 s');
	relay.halfOpen(false);
	await opened(sessions);
	expect(relay.accepted).toBe(2);
	// Nobody else may hear its failure any more, and it must not end the process.
	expect(session.listenerCount('error')).toBeGreaterThan(0);
	sessions.abort();
});

test('a dial that nobody answers ends in time, for everybody who waits for it', async () => {
	const mute = createTcpServer();
	mute.listen(0, '127.0.0.1');
	await once(mute, 'listening');
	const url = `https://127.0.0.1:${(mute.address() as AddressInfo).port}`;
	const sessions = new ApiSessions(url, { dialTimeoutMs: 200, keepaliveMs: HOUR_MS });
	const asked = () => sessions.request('POST', '/', {}, {}).catch((error: unknown) => error);
	for (const error of await Promise.all([asked(), asked()])) {
		expect(error).toMatchObject({ code: Code.Unavailable });
		expect(ConnectError.from(error).rawMessage).toBe('no answer within 0.2 s');
	}
	mute.close();
});

test('both ends ask every 10 seconds, and wait 5 more; a dial has 10', () => {
	expect(API_SESSION_LIMITS_DEFAULT).toEqual({ dialTimeoutMs: 10_000, keepaliveMs: 10_000, keepaliveTimeoutMs: 5000 });
	expect(API_LIMITS_DEFAULT).toMatchObject({ pingPeriodMs: 10_000, pingTimeoutMs: 5000 });
});
