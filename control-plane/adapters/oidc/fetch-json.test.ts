import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../../kit/clock.ts';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import { isSafeUrl } from './discovery.ts';
import { type Fetch, fetchJson } from './fetch-json.ts';

const ANSWERS: Readonly<Record<string, (response: ServerResponse) => void>> = {
	'/good': (response) => response.end('{"a":1}'),
	'/moved': (response) => response.writeHead(302, { location: '/good' }).end(),
	'/large': (response) => response.end(JSON.stringify({ a: 'x'.repeat(262_144) })),
	'/broken': (response) => response.end('{'),
	'/bytes': (response) => response.end(Buffer.from([0x22, 0xff, 0x22])),
	'/failing': (response) => response.writeHead(500).end('{"a":1}'),
	'/silent': () => {},
};
const server = createServer((request, response) => ANSWERS[request.url ?? '']?.(response));
const at = (path: string) => `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`;

beforeAll(() => new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve)));
afterAll(() => {
	server.closeAllConnections();
	server.close();
});

test('a document is taken as it is', async () => {
	expect(await fetchJson(at('/good'), systemClock, fetch)).toEqual({ a: 1 });
});

test.each(['/moved', '/large', '/broken', '/bytes', '/failing'])(
	'nothing is taken from a page that is %s',
	async (path) => {
		await expect(fetchJson(at(path), systemClock, fetch)).rejects.toMatchObject({ reason: 'ISSUER_UNAVAILABLE' });
	},
);

test('a provider that says nothing is waited for five seconds, and its query is in no message', async () => {
	const clock = new VirtualClock();
	let signal: AbortSignal | null | undefined;
	const watched: Fetch = (url, init) => {
		signal = init.signal;
		return fetch(url, init);
	};
	const asked = expect(fetchJson(`${at('/silent')}?who=ada`, clock, watched)).rejects.toMatchObject({
		reason: 'ISSUER_UNAVAILABLE',
		message: expect.not.stringContaining('ada'),
	});
	clock.advance(4999);
	expect(signal?.aborted).toBe(false);
	clock.advance(1);
	await asked;
});

test('addresses are over TLS, or on this machine, and carry no password', () => {
	for (const good of [
		'https://id.example/keys',
		'http://127.0.0.1:8080/keys',
		'http://[::1]/keys',
		'http://localhost/k',
	])
		expect(isSafeUrl(good), good).toBe(true);
	for (const bad of [
		'http://id.example/keys',
		'http://127.0.0.1.example/',
		'https://a:b@id.example/',
		'file:///etc/x',
		'x',
	])
		expect(isSafeUrl(bad), bad).toBe(false);
});
