import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ApiServer, createApiServer } from '../../control-plane/api/server.ts';
import { ApiKeyAuthenticator, type PresentedRequest } from '../../control-plane/app/iam/authenticate.ts';
import type { PrincipalActor } from '../../control-plane/app/iam/principal.ts';
import { assuranceOf } from '../../control-plane/app/login/token-login.ts';
import { Registry } from '../../kit/exposition.ts';
import { ApiWorld } from './api-world.ts';
import { rawCall } from './raw-api.ts';

/**
 * Logins while their provider can't be reached: everything behind the token's own verification is real. How the keys grow
 * old is tested where they are (adapters/oidc/key-set.test.ts).
 */
let world: ApiWorld;
let server: ApiServer;
let key: string;
let keysFresh: boolean;

beforeAll(async () => {
	world = await ApiWorld.start();
	key = await world.addPrincipal('user', 'platform.operator', 'platform');
	const { deps, tls, uses } = world;
	const keys = new ApiKeyAuthenticator({ ...deps, pepper: deps.secrets.ring, environment: 'test', uses });
	const authenticator = {
		authenticate: async (authorization: string | null, request: PresentedRequest) =>
			asLogin(await keys.authenticate(authorization, request)),
	};
	server = await createApiServer({
		deps,
		tls,
		registry: new Registry(),
		listen: { host: '127.0.0.1', port: 0 },
		authenticator,
	});
});
afterAll(async () => {
	await server[Symbol.asyncDispose]();
	await world[Symbol.asyncDispose]();
});

/** As if the same person had come with a strong login of a moment ago. */
function asLogin(actor: PrincipalActor): PrincipalActor {
	const nowMs = world.deps.clock.now();
	const login = {
		...{ issuer: 'https://id.example', subject: 'ada', tokenId: 't', clientId: 'c', sessionId: '' },
		...{ acr: world.deps.login.stepUpAcr[0] ?? '', amr: [], authenticatedAtMs: nowMs, issuedAtMs: nowMs },
		...{ expiresAtMs: nowMs + 60_000, email: '', emailVerified: false, displayName: '', keysFresh },
	};
	return { ...actor, login, assurance: assuranceOf(login, world.deps.login) };
}

async function reasonOf(path: string, body = '{}'): Promise<string> {
	const answer = await rawCall({ server, rootPem: world.rootPem }, { path, body, key });
	return /"reason":"([A-Z_]+)"/.exec(answer.body.toString('latin1'))?.[1] ?? String(answer.status);
}

test('while a provider can’t be reached its logins read, and change nothing', async () => {
	const before = (await world.audit()).length;
	keysFresh = false;
	expect(await reasonOf('/gpuaas.nodes.v1.NodeService/ListNodes')).toBe('200');
	expect(await reasonOf('/gpuaas.tokens.v1.TokenService/CreateToken')).toBe('LOGIN_STALE_KEYS');
	expect(await reasonOf('/gpuaas.tokens.v1.TokenService/RevokeToken', '{"tokenId":"x"}')).toBe('LOGIN_STALE_KEYS');
	expect((await world.audit()).slice(before).filter(({ result }) => result === 'ok')).toEqual([]);
	keysFresh = true;
	expect(await reasonOf('/gpuaas.tokens.v1.TokenService/CreateToken')).toBe('200');
});
