import { createServer, type ServerResponse } from 'node:http';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { BrowserLogin, type BrowserLoginDeps } from '../../control-plane/app/login/browser-login.ts';
import { CONTROL_PLANE_SCHEMA } from '../../control-plane/config.ts';
import { assert } from '../../kit/assert.ts';
import { loadConfig } from '../../kit/config.ts';
import { eventually } from '../eventually.ts';
import { StaticIssuer } from '../providers/static-issuer.ts';
import { ApiWorld, type ApiWorldOptions } from './api-world.ts';
import { Tab } from './browser-tab.ts';

/** What strangers, and a provider, may send to the login pages. */
const ORIGIN = 'https://gpuaas.example';
const CONSOLE = 'gpuaas-console';
let issuer: StaticIssuer;

beforeAll(async () => {
	issuer = await StaticIssuer.start();
});
afterAll(() => issuer[Symbol.asyncDispose]());

async function start(api: ApiWorldOptions['api'], of = issuer.issuer) {
	const { oidc } = loadConfig(CONTROL_PLANE_SCHEMA, { env: {} }).values;
	const web = { clientId: CONSOLE, clientSecret: 'secret', origin: ORIGIN };
	const world = await ApiWorld.start({ ...(api === undefined ? {} : { api }), oidc: { ...oidc, issuers: [of] }, web });
	return Object.assign(world, { tab: new Tab({ api: world }, ORIGIN) });
}

const announce = (tab: Tab, logout_token: string) =>
	tab.send('/auth/backchannel-logout', {
		method: 'POST',
		headers: { 'content-type': 'application/x-www-form-urlencoded' },
		body: new URLSearchParams({ logout_token }).toString(),
	});

test.each(['/auth/callback?code=x&state=y', '/auth/session', '/auth/nothing'])(
	'an address above its rate is refused at %s',
	async (path) => {
		await using world = await start({ perAddress: { perSecond: 0.001, burst: 1 } });
		expect((await world.tab.send(path)).status).not.toBe(429);
		const refused = await world.tab.send(path);
		expect(refused).toMatchObject({ status: 429, body: expect.stringContaining('RATE_LIMITED') });
	},
);

test('login pages under way are bounded, and one that ends makes room', async () => {
	const waiting: ServerResponse[] = [];
	const server = createServer((_request, response) => void waiting.push(response));
	await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
	try {
		const address = server.address();
		assert(address !== null && typeof address === 'object', 'listening');
		const hanging = `http://127.0.0.1:${address.port}/realms/hanging`;
		await using world = await start({ loginsInFlightMax: 1 }, hanging);
		const login = world.tab.send(`/auth/login?issuer=${hanging}`);
		await eventually('the provider is asked', () => waiting.length > 0);
		expect((await world.tab.send('/auth/session')).status).toBe(429);
		for (const response of waiting) response.writeHead(500).end();
		expect((await login).status).toBe(503);
		expect((await world.tab.send('/auth/session')).status).toBe(401);
	} finally {
		server.closeAllConnections();
		server.close();
	}
});

test('an answer to a login that nobody began writes nothing', async () => {
	await using world = await start(undefined);
	const { store, clock } = world.deps;
	const unit = () => Promise.reject(new Error('a unit was opened'));
	const deps = { clock, store: { read: store.read.bind(store), unit } } as unknown as BrowserLoginDeps;
	const answer = new URL('/auth/callback?code=x&state=invented', ORIGIN);
	const from = { secret: 's', before: '', peer: '::1', assertSame: () => {} };
	await expect(new BrowserLogin(deps).complete(answer, from)).rejects.toMatchObject({ reason: 'LOGIN_STATE_INVALID' });
});

test('a provider ends as many sessions at once as it has; who forges that is slowed down, and nobody with them', async () => {
	await using world = await start(undefined);
	const logout = (id: string) => issuer.logoutToken(CONSOLE, { sub: `person-${id}`, sid: `session-${id}`, jti: id });
	const ended = await Promise.all(
		Array.from({ length: 100 }, async (_, index) => (await announce(world.tab, await logout(`${index}`))).status),
	);
	expect(new Set(ended)).toEqual(new Set([200]));
	const forged = async () => {
		const token = (await logout('forged')).split('.').slice(0, 2).join('.');
		return (await announce(world.tab, `${token}.AAAA`)).status;
	};
	const statuses = await Promise.all(Array.from({ length: 150 }, forged));
	expect(statuses).toContain(400);
	expect(statuses).toContain(429);
	expect(await announce(world.tab, await logout('last'))).toMatchObject({ status: 200 });
});
