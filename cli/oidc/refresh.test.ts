import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { assert } from '../../kit/assert.ts';
import { pickContext, putContext } from '../contexts.ts';
import { testIo } from '../test-io.ts';
import { openProvider } from './provider.ts';
import { accessToken } from './refresh.ts';

/** A provider's two addresses that a refresh needs, on this machine; its refresh tokens are good once. */
class TokenEndpoint implements AsyncDisposable {
	readonly #server = createServer((request, response) => {
		let body = '';
		request.on('data', (part: Buffer) => {
			body += part.toString();
		});
		request.on('end', () => {
			response.setHeader('content-type', 'application/json');
			if (request.url !== '/token') {
				response.end(JSON.stringify({ issuer: this.issuer, token_endpoint: `${this.issuer}/token` }));
				return;
			}
			const sent = new URLSearchParams(body).get('refresh_token') ?? '';
			this.asked.push(sent);
			const isGood = this.good === sent;
			if (!isGood) response.statusCode = 400;
			if (isGood && this.rotates) this.good = `${sent}!`;
			const rotated = this.rotates ? { refresh_token: this.good } : {};
			const granted = { access_token: `access of ${sent}`, token_type: 'bearer', expires_in: 300, ...rotated };
			response.end(JSON.stringify(isGood ? granted : { error: 'invalid_grant' }));
		});
	});
	readonly asked: string[] = [];
	rotates = true;
	good = 'r';
	issuer = '';

	async open(): Promise<void> {
		await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
		const address = this.#server.address();
		assert(address !== null && typeof address === 'object', 'listening');
		this.issuer = `http://127.0.0.1:${address.port}`;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		const closed = new Promise((resolve) => this.#server.close(resolve));
		this.#server.closeAllConnections();
		await closed;
	}
}

let provider: TokenEndpoint;
let folder: string;
const io = () => testIo({ GPUAAS_CONFIG_DIR: folder });

beforeEach(async () => {
	provider = new TokenEndpoint();
	await provider.open();
	folder = mkdtempSync(join(tmpdir(), 'gpuaas-refresh-'));
});
afterEach(async () => {
	rmSync(folder, { recursive: true, force: true });
	await provider[Symbol.asyncDispose]();
});

async function loggedIn(endsInMs: number): Promise<void> {
	const { issuer } = provider;
	const expiresAtMs = io().clock.now() + endsInMs;
	const login = { issuer, clientId: 'cli', accessToken: 'access', expiresAtMs, refreshToken: 'r' };
	await putContext(io(), 'a', { address: 'https://127.0.0.1:1', caPem: '', key: '', login });
}

const stored = async () => (await pickContext(io(), 'a')).login;

test('a token that is good is used as it is; one that ends on the way is not', async () => {
	await loggedIn(60_000);
	expect(await accessToken(io(), 'a')).toBe('access');
	expect(provider.asked).toEqual([]);
	await loggedIn(10_000);
	expect(await accessToken(io(), 'a')).toBe('access of r');
});

test('many commands at once spend the refresh token once, and all have the new token', async () => {
	await loggedIn(0);
	const all = await Promise.all(Array.from({ length: 5 }, () => accessToken(io(), 'a')));
	expect(new Set(all)).toEqual(new Set(['access of r']));
	expect(provider.asked).toEqual(['r']);
	expect(await stored()).toMatchObject({ accessToken: 'access of r', refreshToken: 'r!' });
});

test('a provider that gives no new refresh token means the one that there is', async () => {
	provider.rotates = false;
	await loggedIn(0);
	await accessToken(io(), 'a');
	expect((await stored())?.refreshToken).toBe('r');
});

test('a login that the provider has ended says so, and is not tried without a refresh token', async () => {
	await loggedIn(0);
	provider.good = 'another';
	await expect(accessToken(io(), 'a')).rejects.toMatchObject({ reason: 'LOGGED_OUT' });
	const before = readFileSync(join(folder, 'contexts.json'), 'utf8');
	expect(before).toContain('"refreshToken": "r"');
	await putContext(io(), 'a', {
		...(await pickContext(io(), 'a')),
		login: { ...(await stored()), refreshToken: '' } as never,
	});
	await expect(accessToken(io(), 'a')).rejects.toMatchObject({ reason: 'LOGGED_OUT' });
	expect(provider.asked).toEqual(['r']);
});

test('a provider is asked over TLS, but for one on this machine', async () => {
	await openProvider(provider.issuer, 'cli');
	// An address of this machine that is not its own name: nothing is sent there in the clear.
	await expect(openProvider(provider.issuer.replace('127.0.0.1', '127.0.0.2'), 'cli')).rejects.toThrow(/HTTPS/i);
	await expect(openProvider('no address', 'cli')).rejects.toThrow('is not the address of a provider');
});
