import { createServer } from 'node:http';
import { describe, expect, test } from 'vitest';
import { assert } from '../../kit/assert.ts';
import { eventually } from '../eventually.ts';
import { ACR_OTP, type IdentityProvider } from '../providers/identity-provider.ts';
import { Tab } from './browser-tab.ts';
import { LoginWorld } from './login-world.ts';

/** Sessions of browsers, on the real provider: the browser is ours, TLS, redirects, cookies and pages are real. */
const WHO_AM_I = '/gpuaas.system.v1.SystemService/WhoAmI';
const CREATE_TOKEN = '/gpuaas.tokens.v1.TokenService/CreateToken';

export function browserSessionSuite(of: () => { provider: IdentityProvider }): void {
	const ORIGIN = 'https://gpuaas.example';

	async function start() {
		const { provider } = of();
		await provider.setConsole(`${ORIGIN}/auth/callback`, `${ORIGIN}/auth/backchannel-logout`);
		const web = { clientId: provider.consoleClient.id, clientSecret: provider.consoleClient.secret, origin: ORIGIN };
		return await LoginWorld.start(provider, 300_000, [], { web });
	}

	async function joined(world: LoginWorld, name: string, role = 'platform.operator', scope = 'platform') {
		const person = world.person(await of().provider.addUser(name));
		expect(await person.join(role, scope)).toMatchObject({ code: 0 });
		return person;
	}

	describe('sessions of browsers', () => {
		test('a person logs in, reads, changes with the session’s token only, steps up, and logs out', async () => {
			await using world = await start();
			using person = await joined(world, 'browser1');
			const tab = new Tab(world, ORIGIN);
			const landed = await tab.logIn(person, '?return_to=/nodes%3Ftab%3Dgpu');
			expect(landed).toMatchObject({ status: 303, location: '/nodes?tab=gpu' });
			const session = landed.cookies.find((cookie) => cookie.startsWith('__Host-gpuaas-session=')) ?? '';
			for (const part of ['; Path=/', '; Secure', '; HttpOnly', '; SameSite=Lax']) expect(session).toContain(part);
			expect(session).not.toContain('Domain');
			expect((await tab.call(WHO_AM_I)).body).toContain('"kind":"user"');

			expect((await tab.call(CREATE_TOKEN)).body).toContain('CSRF_REJECTED');
			expect((await tab.call(CREATE_TOKEN, 'guessed')).body).toContain('CSRF_REJECTED');
			expect((await tab.call(CREATE_TOKEN, await tab.csrf())).body).toContain('STEP_UP_REQUIRED');
			const before = tab.cookies['__Host-gpuaas-session'];
			expect((await tab.logIn(person, '?step_up=1')).status).toBe(303);
			expect(tab.cookies['__Host-gpuaas-session']).not.toBe(before);
			expect((await tab.send('/auth/session')).body).toContain(ACR_OTP);
			expect((await tab.call(CREATE_TOKEN, await tab.csrf())).body).toContain('joinToken');

			const old = new Tab(world, ORIGIN);
			old.cookies = { '__Host-gpuaas-session': before ?? '' };
			expect((await old.call(WHO_AM_I)).body).toContain('SESSION_ENDED');
			const csrf = await tab.csrf();
			const logout = (headers: Record<string, string>) => tab.send('/auth/logout', { method: 'POST', headers });
			expect((await logout({})).body).toContain('CSRF_REJECTED');
			expect((await logout({ 'x-csrf-token': csrf, origin: 'https://evil.example' })).body).toContain('CSRF_REJECTED');
			const copy = { ...tab.cookies };
			expect((await logout({ 'x-csrf-token': csrf, origin: ORIGIN })).status).toBe(200);
			tab.cookies = copy;
			expect((await tab.call(WHO_AM_I)).body).toContain('SESSION_ENDED');
		});

		test('an answer counts once, for the browser that began, with its own state; nobody is led elsewhere', async () => {
			await using world = await start();
			using person = await joined(world, 'browser2');
			const tab = new Tab(world, ORIGIN);
			const answer = await tab.answer(person);
			const other = new Tab(world, ORIGIN);
			expect((await other.send(answer)).body).toContain('LOGIN_STATE_INVALID');
			expect((await tab.send(answer)).body).toContain('LOGIN_STATE_INVALID');

			const again = await tab.answer(person);
			const forged = new URL(again, ORIGIN);
			forged.searchParams.set('state', 'forged');
			expect((await tab.send(forged.pathname + forged.search)).body).toContain('LOGIN_STATE_INVALID');
			const mixed = new URL(again, ORIGIN);
			mixed.searchParams.set('iss', 'https://evil.example');
			expect((await tab.send(mixed.pathname + mixed.search)).body).toContain('LOGIN_STATE_INVALID');
			const good = await tab.answer(person);
			expect((await tab.send(good)).status).toBe(303);
			expect((await tab.send(good)).body).toContain('LOGIN_STATE_INVALID');

			for (const to of ['https://evil.example', '//evil.example', '/%5Cevil.example'])
				expect((await tab.send(`/auth/login?return_to=${encodeURIComponent(to)}`)).body).toContain(
					'RETURN_ADDRESS_INVALID',
				);
			expect((await tab.send('/auth/login?issuer=https://evil.example')).body).toContain('ACCESS_TOKEN_ISSUER');
			expect((await tab.send('/auth/nothing')).status).toBe(404);
		});

		test('a logout at the provider ends the sessions here, once announced; a forged or repeated one does nothing', async () => {
			const { provider } = of();
			if (!provider.canLogOutEverywhere) return expect(provider.name).toBe('node-oidc-provider');
			await using world = await start();
			await using receiver = await backchannelReceiver();
			await provider.setConsole(`${ORIGIN}/auth/callback`, receiver.url);
			using person = await joined(world, 'browser4');
			const tab = new Tab(world, ORIGIN);
			expect((await tab.logIn(person)).status).toBe(303);
			await provider.logOutEverywhere(person.user);
			const token = await eventually('the announcement', () => receiver.tokens[0]);
			const announce = (logout_token: string) =>
				tab.send('/auth/backchannel-logout', {
					method: 'POST',
					headers: { 'content-type': 'application/x-www-form-urlencoded' },
					body: new URLSearchParams({ logout_token }).toString(),
				});
			const { accessToken } = person.stored();
			for (const wrong of ['', 'a.b.c', accessToken, `${token.slice(0, -4)}AAAA`])
				expect(await announce(wrong)).toMatchObject({ status: 400 });
			expect((await tab.call(WHO_AM_I)).status).toBe(200);
			expect(await announce(token)).toMatchObject({ status: 200 });
			expect((await tab.call(WHO_AM_I)).body).toContain('SESSION_ENDED');
			expect((await announce(token)).body).toContain('used before');
		});

		test('somebody who is disabled at the provider is out when it is next asked', async () => {
			await using world = await start();
			using person = await joined(world, 'browser3');
			const tab = new Tab(world, ORIGIN);
			expect((await tab.logIn(person)).status).toBe(303);
			const browser = world.browserLogin();
			expect(await browser.reconcile(0, 10)).toBe(0);
			expect((await tab.call(WHO_AM_I)).status).toBe(200);
			await of().provider.disableUser(person.user);
			expect(await browser.reconcile(-1000, 10)).toBe(1);
			expect((await tab.call(WHO_AM_I)).body).toContain('SESSION_ENDED');
		});
	});
}

/** The provider announces a logout to a plain address here, and each announcement is passed on to the control plane. */
export async function backchannelReceiver(): Promise<{ url: string; tokens: string[] } & AsyncDisposable> {
	const tokens: string[] = [];
	const server = createServer((request, response) => {
		let body = '';
		request.on('data', (part: Buffer) => {
			body += part.toString();
		});
		request.on('end', () => {
			tokens.push(new URLSearchParams(body).get('logout_token') ?? '');
			response.end();
		});
	});
	await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
	const address = server.address();
	assert(address !== null && typeof address === 'object', 'listening');
	return {
		url: `http://127.0.0.1:${address.port}/`,
		tokens,
		async [Symbol.asyncDispose]() {
			const closed = new Promise((resolve) => server.close(resolve));
			server.closeAllConnections();
			await closed;
		},
	};
}
