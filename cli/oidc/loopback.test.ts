import { request } from 'node:http';
import { expect, test } from 'vitest';
import { openLoopback } from './loopback.ts';

/** The status that the listener answers with. */
function visit(address: string, { host = new URL(address).host, method = 'GET' } = {}): Promise<number> {
	return new Promise((resolve, reject) => {
		const sent = request(address, { method, headers: { host } }, (response) => {
			response.resume();
			response.once('end', () => resolve(response.statusCode ?? 0));
		});
		sent.once('error', reject);
		sent.end();
	});
}

const never = new AbortController().signal;

test('one answer is taken, at its own path and host, by this machine’s own address', async () => {
	await using loopback = await openLoopback();
	const at = new URL(loopback.redirectUri);
	expect(loopback.redirectUri).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/callback$/);
	expect(await visit(`${at.origin}/other?code=x`)).toBe(404);
	expect(await visit(`${at.href}?code=x`, { method: 'POST' })).toBe(404);
	// A name that somebody lets point to this machine.
	expect(await visit(`${at.href}?code=x`, { host: `rebound.example:${at.port}` })).toBe(404);
	expect(await visit(`${at.href}?code=${'x'.repeat(9000)}`)).toBe(404);
	expect(await visit(`${at.href}?code=good&state=s`)).toBe(200);
	expect(await visit(`${at.href}?code=late`)).toBe(404);
	// Another address of this machine: nobody listens there.
	await expect(visit(`http://127.0.0.2:${at.port}/callback?code=x`)).rejects.toThrow('ECONNREFUSED');
	expect((await loopback.answer(never)).search).toBe('?code=good&state=s');
});

test('a refusal is told to the browser, and no answer in time is an error', async () => {
	await using refused = await openLoopback();
	expect(await visit(`${refused.redirectUri}?error=access_denied`)).toBe(400);
	await using silent = await openLoopback();
	await expect(silent.answer(AbortSignal.abort())).rejects.toMatchObject({ reason: 'LOGIN_FAILED' });
});
