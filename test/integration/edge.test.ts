import { expect, test } from 'vitest';
import { openEdgeVerifier } from '../../control-plane/adapters/oidc/open.ts';
import { createApiServer } from '../../control-plane/api/server.ts';
import { ANONYMOUS } from '../../control-plane/app/iam/principal.ts';
import { EDGE_HEADERS } from '../../control-plane/app/login/edge-gate.ts';
import { Registry } from '../../kit/exposition.ts';
import { LoginService } from '../../proto/gen/gpuaas/login/v1/login_pb.ts';
import { AccessProxy } from '../providers/access-proxy.ts';
import { NodeOidc } from '../providers/node-oidc.ts';
import { ApiWorld } from './api-world.ts';
import { Tab } from './browser-tab.ts';
import { LoginWorld } from './login-world.ts';
import { rawCall } from './raw-api.ts';

const LIST_NODES = '/gpuaas.nodes.v1.NodeService/ListNodes';
const WHO_AM_I = '/gpuaas.system.v1.SystemService/WhoAmI';
const ORIGIN = 'https://gpuaas.example';
const TENANT = ['tenant.developer', 'organizations/acme/projects/train'] as const;

test.each([
	['pomerium', 'x-pomerium-jwt-assertion'],
	['cloudflare', 'cf-access-jwt-assertion'],
] as const)('%s: a request needs the assertion of the edge, about the same person', async (kind, header) => {
	await using proxy = await AccessProxy.start(kind);
	await using provider = await NodeOidc.start();
	const { issuer, audience, jwksUrl } = proxy;
	const edge = { kind, issuer, audience, jwksUrl, clockSkewMaxMs: 30_000 };
	await using world = await LoginWorld.start(provider, 300_000, [], { edge });
	const user = await provider.addUser('ada');
	using person = world.person(user);
	const { accessToken } = await person.rawTokens();
	const same = await proxy.assertion({ sub: user.subject, email: user.email });
	const invitationToken = await world.invite(user.email, ...TENANT);
	await world.api.client(LoginService, accessToken, { [header]: same }).acceptInvitation({ invitationToken });

	const reason = async (key: string, headers: Record<string, string>) => {
		const { status, body } = await rawCall(world.api, { path: LIST_NODES, body: '{}', key, headers });
		return /"reason":"([A-Z_]+)"/.exec(body.toString('latin1'))?.[1] ?? String(status);
	};
	const asserted = async (claims: object, by?: 'stranger') =>
		reason(accessToken, { [header]: await proxy.assertion({ sub: user.subject, email: user.email, ...claims }, by) });
	expect(await reason(accessToken, { [header]: same })).toBe('200');
	expect(await reason(accessToken, {})).toBe('EDGE_ASSERTION_INVALID');
	const other = header === 'x-pomerium-jwt-assertion' ? 'cf-access-jwt-assertion' : 'x-pomerium-jwt-assertion';
	expect(await reason(accessToken, { [other]: same })).toBe('EDGE_ASSERTION_INVALID');
	const somebody = kind === 'pomerium' ? { sub: 'somebody' } : { email: 'somebody@example.com' };
	expect(await asserted(somebody)).toBe('EDGE_ASSERTION_MISMATCH');
	expect(await asserted({ aud: 'another.example' })).toBe('EDGE_ASSERTION_INVALID');
	expect(await asserted({ iss: 'https://evil.example' })).toBe('EDGE_ASSERTION_INVALID');
	expect(await asserted({ exp: 1 })).toBe('EDGE_ASSERTION_INVALID');
	expect(await asserted({}, 'stranger')).toBe('EDGE_ASSERTION_INVALID');
	expect(await reason(accessToken, { [header]: 'x'.repeat(9000) })).toBe('EDGE_ASSERTION_INVALID');
	// The edge vouches for the way of a key, and is never itself who came.
	const key = await world.api.addPrincipal('service_account', 'platform.viewer', 'platform');
	expect(await reason(key, {})).toBe('EDGE_ASSERTION_INVALID');
	expect(await reason(key, { [header]: same })).toBe('200');
	expect(await reason('', { [header]: same })).toBe('UNAUTHENTICATED');
});

test.each([
	['pomerium', 'x-pomerium-jwt-assertion'],
	['cloudflare', 'cf-access-jwt-assertion'],
] as const)(
	'%s: a session of a browser and the pages for it need it too, about the same person',
	async (kind, header) => {
		await using proxy = await AccessProxy.start(kind);
		await using provider = await NodeOidc.start();
		await provider.setConsole(`${ORIGIN}/auth/callback`, `${ORIGIN}/auth/backchannel-logout`);
		const { issuer, audience, jwksUrl } = proxy;
		const edge = { kind, issuer, audience, jwksUrl, clockSkewMaxMs: 30_000 };
		const web = { clientId: provider.consoleClient.id, clientSecret: provider.consoleClient.secret, origin: ORIGIN };
		await using world = await LoginWorld.start(provider, 300_000, [], { edge, web });
		const user = await provider.addUser('bea');
		using person = world.person(user);
		const { accessToken } = await person.rawTokens();
		const own = { [header]: await proxy.assertion({ sub: user.subject, email: user.email }) };
		const other = { [header]: await proxy.assertion({ sub: 'somebody', email: 'somebody@example.com' }) };
		const invitationToken = await world.invite(user.email, ...TENANT);
		await world.api.client(LoginService, accessToken, own).acceptInvitation({ invitationToken });

		const tab = new Tab(world, ORIGIN);
		expect((await tab.send('/auth/login')).body).toContain('EDGE_ASSERTION_INVALID');
		tab.added = own;
		const answer = await tab.answer(person);
		tab.added = other;
		expect((await tab.send(answer)).body).toContain('EDGE_ASSERTION_MISMATCH');
		expect(tab.cookies['__Host-gpuaas-session']).toBeUndefined();
		tab.added = own;
		expect((await tab.logIn(person)).status).toBe(303);
		const csrf = await tab.csrf();
		const logOut = () =>
			tab.send('/auth/logout', { method: 'POST', headers: { 'x-csrf-token': csrf, origin: ORIGIN } });
		for (const [added, reason] of [
			[{}, 'EDGE_ASSERTION_INVALID'],
			[other, 'EDGE_ASSERTION_MISMATCH'],
		] as const) {
			tab.added = added;
			expect((await tab.call(WHO_AM_I)).body).toContain(reason);
			expect((await tab.send('/auth/session')).body).toContain(reason);
			expect((await logOut()).body).toContain(reason);
		}
		tab.added = own;
		expect((await tab.call(WHO_AM_I)).body).toContain('"kind":"user"');
		expect((await logOut()).status).toBe(200);
	},
);

test('whatever no configured edge wrote is taken off before anybody reads it', async () => {
	await using world = await ApiWorld.start();
	const headers = { 'x-pomerium-jwt-assertion': 'theirs', 'cf-access-jwt-assertion': 'theirs' };
	for (const [configured, left] of [
		[undefined, []],
		[EDGE_HEADERS.pomerium, ['x-pomerium-jwt-assertion']],
		[EDGE_HEADERS.cloudflare, ['cf-access-jwt-assertion']],
	] as const) {
		const read: string[] = [];
		const authenticator = {
			async authenticate(_: string | null, { header }: { readonly header: (name: string) => string | null }) {
				for (const name of Object.values(EDGE_HEADERS)) if (header(name) !== null) read.push(name);
				return ANONYMOUS;
			},
		};
		const { deps, tls, rootPem } = world;
		const listen = { host: '127.0.0.1', port: 0 };
		const edge = configured === undefined ? {} : { edgeHeader: configured };
		await using server = await createApiServer({ deps, tls, registry: new Registry(), listen, authenticator, ...edge });
		await rawCall({ server, rootPem }, { path: LIST_NODES, body: '{}', headers });
		expect(read).toEqual(left);
	}
});

test('without an edge nobody needs its word, and one without all that pins it does not start', async () => {
	await using world = await ApiWorld.start();
	const { status } = await rawCall(world, { path: LIST_NODES, body: '{}', key: world.operatorKey });
	expect(status).toBe(200);
	const { clock, log } = world.deps;
	const pinned = { issuer: 'https://a.example', audience: 'gpuaas.example', jwksUrl: 'https://a.example/k' };
	const open = (lacks: Partial<typeof pinned>) => () =>
		openEdgeVerifier(
			{ kind: 'pomerium', clockSkewMaxMs: 1, ...pinned, ...lacks },
			{ clock, log, registry: new Registry() },
		);
	for (const lacks of [{ issuer: '' }, { audience: '' }, { jwksUrl: '' }])
		expect(open(lacks)).toThrow('[edge] names a kind');
	expect(open({})()).toBeDefined();
});

test('a trusted proxy decides the address that the audit log has; anybody else’s word for it does not', async () => {
	const call = { path: '/gpuaas.tokens.v1.TokenService/RevokeToken', body: '{"tokenId":"x"}' };
	const headers = { 'x-forwarded-for': '198.51.100.1, 192.0.2.7' };
	for (const [trustedProxies, from, expected] of [
		[['127.0.0.1/32'], '127.0.0.1', '192.0.2.7'],
		[['127.0.0.1/32'], '127.0.0.2', '127.0.0.2'],
		[[], '127.0.0.1', '127.0.0.1'],
	] as const) {
		await using world = await ApiWorld.start({ trustedProxies });
		await rawCall(world, { ...call, headers, from, key: world.operatorKey });
		const leaves = await world.deps.store.read((tx) => tx.audit.listUnchained(100));
		const peers = leaves.map(({ clear }) => JSON.stringify(clear)).join();
		expect(peers).toContain(expected);
		if (expected !== '192.0.2.7') expect(peers).not.toContain('192.0.2.7');
	}
});
