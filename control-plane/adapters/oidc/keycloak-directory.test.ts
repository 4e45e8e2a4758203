import { expect, test } from 'vitest';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import { KeycloakDirectory } from './keycloak-directory.ts';

/** What stands in front of a Keycloak, and what older ones say; the real one is asked in test/integration/login-keycloak. */
const ISSUER = 'https://id.example/realms/gpuaas';
const payload = Buffer.from(JSON.stringify({ sub: 'own' })).toString('base64url');

type Answers = Readonly<Record<string, readonly [status: number, body: string]>>;

function directory(answers: Answers): KeycloakDirectory {
	const settings = { issuers: [ISSUER], clientId: 'gpuaas-directory', clientSecret: 's' };
	const fetch = async (url: string) => {
		const [status, body] = answers[url.split('/admin/realms/gpuaas/')[1] ?? ''] ?? [404, '<html>not found</html>'];
		return new Response(body, { status });
	};
	return new KeycloakDirectory(settings, new VirtualClock(), fetch, async () => ({
		access_token: `a.${payload}.c`,
		expires_in: 60,
	}));
}

const NOT_FOUND = [404, '{"error":"User not found"}'] as const;
const OWN = { 'users/own': [200, '{"id":"own","enabled":true}'] } as const;
const at = (answers: Answers) => directory(answers).statusOf(ISSUER, 'ada');

test('somebody is gone only by Keycloak’s own words, from a directory that knows who asks', async () => {
	expect(await at({ ...OWN, 'users/ada': NOT_FOUND })).toBe('gone');
	// A proxy that keeps the admin API away, with and without a body that could be Keycloak's.
	await expect(at({})).rejects.toMatchObject({ reason: 'ISSUER_UNAVAILABLE' });
	const elsewhere = [404, '{"error":"HTTP 404 Not Found"}'] as const;
	await expect(at({ ...OWN, 'users/ada': elsewhere })).rejects.toThrow(/no usable answer/);
	// A realm that was restored without its users.
	await expect(at({ 'users/ada': NOT_FOUND, 'users/own': NOT_FOUND })).rejects.toThrow(/no usable answer/);
	await expect(at({ ...OWN, 'users/ada': [403, '{}'] })).rejects.toThrow(/view-users/);
	await expect(at({ ...OWN, 'users/ada': [200, '{"id":"ada"}'] })).rejects.toThrow(/no usable answer/);
});

test('whoever gives up waiting is let go at once, by the token’s address and by the question’s', async () => {
	const settings = { issuers: [ISSUER], clientId: 'gpuaas-directory', clientSecret: 's' };
	const asked: string[] = [];
	const silent = (url: string, { signal }: RequestInit) => {
		asked.push(url);
		return new Promise<Response>((_, reject) => signal?.addEventListener('abort', () => reject(new Error('cut'))));
	};
	const granted = async () => ({ access_token: `a.${payload}.c`, expires_in: 60 });
	for (const [grant, at] of [
		[undefined, '/.well-known/openid-configuration'],
		[granted, '/admin/realms/gpuaas/users/ada'],
	] as const) {
		const stop = new AbortController();
		const keycloak = new KeycloakDirectory(settings, new VirtualClock(), silent, grant);
		const status = keycloak.statusOf(ISSUER, 'ada', stop.signal);
		await expect.poll(() => asked.at(-1)).toMatch(new RegExp(`${at}$`));
		stop.abort();
		await expect(status).rejects.toMatchObject({ reason: 'ISSUER_UNAVAILABLE' });
	}
});

test('wrong passwords lock nobody here: who is kept out for a while is still there', async () => {
	const user = { 'users/ada': [200, '{"id":"ada","enabled":false}'] } as const;
	const attacked = 'attack-detection/brute-force/users/ada';
	expect(await at({ ...user, [attacked]: [200, '{"disabled":true,"numFailures":10}'] })).toBe('active');
	expect(await at({ ...user, [attacked]: [200, '{"disabled":false,"numFailures":0}'] })).toBe('disabled');
	await expect(at({ ...user, [attacked]: [403, '{}'] })).rejects.toThrow(/no usable answer/);
	expect(await at({ 'users/ada': [200, '{"id":"ada","enabled":true}'] })).toBe('active');
});
