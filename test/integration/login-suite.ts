import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { providerProblem } from '../../cli/oidc/check-provider.ts';
import { LoginService } from '../../proto/gen/gpuaas/login/v1/login_pb.ts';
import { ACR_OTP, ACR_PASSWORD, type IdentityProvider } from '../providers/identity-provider.ts';
import { underPolicy } from './lock-order.ts';
import { LoginWorld, type Person } from './login-world.ts';
import { rawCall } from './raw-api.ts';

/** What every provider must give and every person expects, on the real thing. One provider a test file. */
const TENANT = ['tenant.developer', 'organizations/acme/projects/train'] as const;
const LIST_NODES = '/gpuaas.nodes.v1.NodeService/ListNodes';
const CREATE_TOKEN = '/gpuaas.tokens.v1.TokenService/CreateToken';

interface Me {
	readonly principalId: string;
	readonly kind: string;
	readonly login?: { readonly acr: string; readonly authTime: string; readonly steppedUpUntil?: string };
}

export function loginSuite(
	start: () => Promise<IdentityProvider>,
): () => { provider: IdentityProvider; world: LoginWorld; member(): Promise<Person> } {
	let provider: IdentityProvider;
	let world: LoginWorld;
	let people = 0;
	beforeAll(async () => {
		provider = await start();
		world = await LoginWorld.start(provider);
	});
	afterAll(async () => {
		await world?.[Symbol.asyncDispose]();
		await provider?.[Symbol.asyncDispose]();
	});

	async function newPerson(options?: { emailVerified?: boolean }): Promise<Person> {
		people += 1;
		return world.person(await provider.addUser(`person${people}`, options));
	}

	async function member(): Promise<Person> {
		const person = await newPerson();
		expect(await person.join(...TENANT)).toMatchObject({ code: 0 });
		return person;
	}

	function reasonFor(bearer: string, path = LIST_NODES, on = world): Promise<string> {
		return rawCall(on.api, { path, body: '{}', key: bearer }).then(
			({ status, body }) => /"reason":"([A-Z_]+)"/.exec(body.toString('latin1'))?.[1] ?? String(status),
		);
	}

	describe('coming in', () => {
		test('a stranger is told what is missing; an invitation for their verified address lets them in, once', async () => {
			using person = await newPerson();
			expect(await person.login()).toMatchObject({ code: 1, err: expect.stringContaining('ask for an invitation') });
			// A login that the control plane refused is no context.
			expect(() => person.stored()).toThrow('ENOENT');
			const wrong = await world.invite('somebody@else.example', ...TENANT);
			expect(await person.login('--invitation', person.file(wrong))).toMatchObject({ code: 1 });
			const expired = await world.invite(person.user.email, ...TENANT, 0);
			expect((await person.login('--invitation', person.file(expired))).err).toContain('has expired');
			const good = person.file(await world.invite(person.user.email, ...TENANT));
			expect(await person.login('--invitation', good)).toMatchObject({ code: 0 });
			const me = await person.json<Me>('whoami');
			expect(me).toMatchObject({ kind: 'user', login: { acr: ACR_PASSWORD } });
			expect((await person.login('--invitation', good)).err).toContain('was used');
			const audit = await world.api.audit();
			expect(audit.filter(({ action }) => action === 'invitations.accept')).toHaveLength(1);
			expect(audit.some(({ action, actor }) => action === 'logins.start' && actor.id === me.principalId)).toBe(true);
		});

		test('an address that the provider has not verified opens nothing', async () => {
			using person = await newPerson({ emailVerified: false });
			const joined = person.join(...TENANT);
			// One of them doesn't even let such a person through: it wants to send a message first, and has no way to.
			if (provider.verifiesAddresses) await expect(joined).rejects.toThrow('Failed to send email');
			else expect(await joined).toMatchObject({ code: 1, err: expect.stringContaining('not verified yours') });
		});

		test('a verified domain of an organization lets its people in, without a role', async () => {
			await using own = await LoginWorld.start(provider);
			const domains = own.api.client(LoginService, own.api.operatorKey);
			const made = { issuer: provider.issuer, domain: 'example.com', organization: 'acme' };
			const { loginDomain } = await domains.createLoginDomain(made);
			using person = own.person((await newPerson()).user);
			expect(await person.login()).toMatchObject({ code: 0 });
			expect(await person.json<Me>('whoami')).toMatchObject({ kind: 'user', bindings: [] });
			expect((await domains.listLoginDomains({})).loginDomains).toMatchObject([made]);
			const state = (to: 'active' | 'suspended') =>
				own.api.deps.store.unit(underPolicy((tx) => tx.scopes.update('organizations/acme', { state: to })));
			using early = own.person((await newPerson()).user);
			await state('suspended');
			expect(await early.login()).toMatchObject({ code: 1, err: expect.stringContaining('ask for an invitation') });
			await state('active');
			await domains.deleteLoginDomain({ id: loginDomain?.id ?? '' });
			using late = own.person((await newPerson()).user);
			expect(await late.login()).toMatchObject({ code: 1, err: expect.stringContaining('ask for an invitation') });
			await expect(domains.createLoginDomain({ ...made, issuer: 'https://other.example' })).rejects.toThrow(
				'not configured',
			);
		});

		test('a code on another device logs in where there is no browser', async () => {
			using person = await member();
			const before = person.stored().accessToken;
			const argv = ['login', world.api.url, '--ca', world.api.rootFile(), '--device'];
			const { code, err } = await person.run(argv);
			expect([code, err]).toEqual([0, expect.stringContaining('On any device, open ')]);
			// Nothing listens on this machine for it.
			expect(err).not.toContain('redirect_uri');
			expect(person.stored().accessToken).not.toBe(before);
		});
	});

	describe('staying in', () => {
		test('a token that ends is refreshed once, however many commands want it, and the old one is spent', async () => {
			using person = await member();
			const before = person.stored();
			person.age();
			const both = await Promise.all([person.run(['whoami']), person.run(['whoami'])]);
			expect(both.map(({ code }) => code)).toEqual([0, 0]);
			const after = person.stored();
			expect(after.refreshToken).not.toBe(before.refreshToken);
			person.putRefreshToken(before.refreshToken);
			person.age();
			expect(await person.run(['whoami'])).toMatchObject({ code: 1, err: expect.stringContaining('log in again') });
		});

		test('logging out ends the token for everybody who has a copy', async () => {
			using person = await member();
			const { accessToken, refreshToken } = person.stored();
			expect(await reasonFor(accessToken)).toBe('200');
			expect(await person.json('logout')).toMatchObject({ controlPlane: true, provider: true });
			expect(await reasonFor(accessToken)).toBe('LOGGED_OUT');
			expect(person.stored()).toBeUndefined();
			person.putLogin({
				issuer: provider.issuer,
				clientId: provider.cliClient,
				accessToken,
				refreshToken,
				expiresAtMs: 0,
			});
			// In the provider's words: a new token of the same second would be void here in any case.
			expect(await person.run(['whoami'])).toMatchObject({
				code: 1,
				err: expect.stringContaining('the login of this context has ended'),
			});
		});

		test('somebody who is disabled at the provider gets no new token', async () => {
			using person = await member();
			await provider.disableUser(person.user);
			person.age();
			expect(await person.run(['whoami'])).toMatchObject({ code: 1, err: expect.stringContaining('log in again') });
		});

		test('a new signing key is taken up, and a withdrawn one no longer counts', async () => {
			using person = await member();
			await provider.rotateKeys({ withdraw: false });
			using second = await member();
			expect(await second.run(['whoami'])).toMatchObject({ code: 0 });
			expect(await person.run(['whoami'])).toMatchObject({ code: 0 });
			await provider.rotateKeys({ withdraw: true });
			using third = await member();
			expect(await third.run(['whoami'])).toMatchObject({ code: 0 });
			// Not one that was remembered as good: the keys of now decide.
			await using fresh = await LoginWorld.start(provider);
			expect(await reasonFor(person.stored().accessToken, LIST_NODES, fresh)).toBe('ACCESS_TOKEN_SIGNATURE');
		});
	});

	test('accepting an invitation and ending a login leave one record each, and no secret', async () => {
		using person = await newPerson();
		const { accessToken } = await person.rawTokens();
		const invitationToken = await world.invite(person.user.email, ...TENANT);
		const before = (await world.api.audit()).length;
		const client = world.api.client(LoginService, accessToken);
		expect(await client.acceptInvitation({ invitationToken })).toMatchObject({ role: TENANT[0], scope: TENANT[1] });
		await client.endLogin({});
		const records = (await world.api.audit()).slice(before);
		expect(records.map(({ action, result }) => `${action} ${result}`)).toEqual([
			'invitations.accept ok',
			'logins.start ok',
			'logins.end ok',
		]);
		expect(JSON.stringify(records)).not.toContain(invitationToken);
		await expect(client.endLogin({})).rejects.toThrow('was ended');
	});

	test('doctor says whether the provider answers, and as whom', async () => {
		using person = await member();
		const { findings } = JSON.parse((await person.run(['doctor', '--json'])).out) as {
			findings: { check: string; result: string; finding: string }[];
		};
		const found = findings.find(({ check }) => check === 'provider');
		expect(found).toMatchObject({ result: 'ok', finding: provider.issuer });
		expect(await providerProblem(`${provider.issuer}/other`, world.api.deps.clock)).toBeDefined();
	});

	describe('stepping up', () => {
		test('a sensitive call asks for a second factor, and the command line answers and repeats it', async () => {
			using person = await newPerson();
			expect(await person.join('platform.operator', 'platform')).toMatchObject({ code: 0 });
			const weak = person.stored().accessToken;
			const refused = await rawCall(world.api, { path: CREATE_TOKEN, body: '{}', key: weak });
			expect(refused.status).toBe(401);
			expect(refused.headers['www-authenticate']).toBe(
				`Bearer error="insufficient_user_authentication", error_description="a recent login with a second factor is needed", acr_values="${ACR_OTP}", max_age="300"`,
			);
			expect(person.browser.asked).not.toContain('otp');
			const created = await person.run(['token', 'create', '--name', 'gpu-1']);
			expect(created).toMatchObject({ code: 0 });
			expect(person.browser.asked).toContain('otp');
			// Both are asked for: an older proof of the provider's own session would else come back.
			expect(created.err).toContain(`acr_values=${encodeURIComponent(ACR_OTP)}&max_age=300`);
			const me = await person.json<Me>('whoami');
			expect(me.login?.acr).toBe(ACR_OTP);
			expect(Date.parse(me.login?.steppedUpUntil ?? '') - Date.parse(me.login?.authTime ?? '')).toBe(300_000);
			expect(await reasonFor(person.stored().accessToken, CREATE_TOKEN)).toBe('200');
			expect(await reasonFor(weak, CREATE_TOKEN)).toBe('STEP_UP_REQUIRED');

			// The same strong token, at a control plane for which it is too old by now.
			await using strict = await LoginWorld.start(provider, 1);
			using there = strict.person(person.user);
			const token = await strict.invite(person.user.email, 'platform.operator', 'platform');
			await there.login('--invitation', there.file(token));
			expect(await reasonFor(person.stored().accessToken, CREATE_TOKEN, strict)).toBe('STEP_UP_REQUIRED');
		});

		test('a second factor of somebody else in the browser steps nobody up', async () => {
			using person = await newPerson();
			using other = await newPerson();
			for (const one of [person, other])
				expect(await one.join('platform.operator', 'platform')).toMatchObject({ code: 0 });
			const login = person.stored();
			// Their browser, the first one's context.
			other.putLogin(login);
			const created = await other.run(['token', 'create']);
			expect(created).toMatchObject({
				code: 1,
				out: '',
				err: expect.stringContaining('somebody else than this context'),
			});
			expect(other.browser.asked).toContain('otp');
			expect(other.stored()).toEqual(login);
		});

		test('the first owner who logs in ends the bootstrap operator', async () => {
			await using fresh = await LoginWorld.start(provider);
			const key = fresh.api.operatorKey;
			using tenant = fresh.person((await newPerson()).user);
			await tenant.join(...TENANT);
			expect(await reasonFor(key, LIST_NODES, fresh)).toBe('200');
			using owner = fresh.person((await newPerson()).user);
			expect(await owner.join('platform.operator', 'platform')).toMatchObject({ code: 0 });
			expect(await reasonFor(key, LIST_NODES, fresh)).toBe('UNAUTHENTICATED');
			const audit = await fresh.api.audit();
			expect(audit.filter(({ action }) => action === 'identities.retire_bootstrap')).toHaveLength(1);
			expect(await owner.run(['node', 'list'])).toMatchObject({ code: 0 });
		});
	});

	describe('what is no login', () => {
		test('tokens of other kinds, of other clients and for others', async () => {
			using person = await member();
			const tokens = await person.rawTokens();
			const { headers } = await rawCall(world.api, { path: LIST_NODES, body: '{}', key: tokens.idToken });
			expect(headers['www-authenticate']).toBe('Bearer error="invalid_token"');
			expect(await reasonFor(tokens.idToken)).toMatch(/^ACCESS_TOKEN_(AUDIENCE|TYPE|CLAIMS)$/);
			expect(await reasonFor(tokens.refreshToken)).toMatch(/^(ACCESS_TOKEN_[A-Z]+)$/);
			const other = await person.rawTokens(provider.otherClient);
			expect(await reasonFor(other.accessToken)).toBe('ACCESS_TOKEN_AUDIENCE');
			await world.api.deps.refusals.flush();
			const denied = (await world.api.audit()).filter(({ result }) => result === 'denied').map(({ reason }) => reason);
			expect(denied).toContain('ACCESS_TOKEN_AUDIENCE');
		});

		test('an answer with another state, of another issuer, or with a code of somebody else, is not used', async () => {
			using person = await member();
			const changed = async (change: (answer: URL) => void) => {
				const { code, err } = await person.loginWith((answer) => {
					change(answer);
					return answer;
				});
				return code === 1 ? err : `logged in: ${code}`;
			};
			expect(await changed((answer) => answer.searchParams.set('state', 'forged'))).toMatch(/not logged in: .*state/);
			expect(await changed((answer) => answer.searchParams.delete('state'))).toMatch(/not logged in: .*state/);
			expect(await changed((answer) => answer.searchParams.set('iss', 'https://evil.example'))).toMatch(
				/not logged in: .*iss/,
			);
			let stolen = '';
			await person.loginWith((answer) => {
				stolen = answer.searchParams.get('code') ?? '';
				answer.searchParams.set('code', 'nothing');
				return answer;
			});
			expect(stolen).not.toBe('');
			// Of another login: without its PKCE verifier it is worth nothing.
			expect(await changed((answer) => answer.searchParams.set('code', stolen))).toMatch(
				/not logged in: .*invalid_grant/,
			);
		});

		test('a code works once', async () => {
			using person = await member();
			let used = new URL('http://127.0.0.1');
			const first = await person.loginWith((answer) => {
				used = answer;
				return answer;
			});
			expect(first.code).toBe(0);
			const code = used.searchParams.get('code') ?? '';
			const again = await person.loginWith((answer) => {
				answer.searchParams.set('code', code);
				return answer;
			});
			expect(again).toMatchObject({ code: 1, err: expect.stringContaining('invalid_grant') });
		});
	});

	return () => ({ provider, world, member });
}
