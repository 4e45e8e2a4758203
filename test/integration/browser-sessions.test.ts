import { createHash } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { CONTROL_PLANE_SCHEMA } from '../../control-plane/config.ts';
import type { BrowserSessionRow } from '../../control-plane/store/port/browser-sessions.ts';
import { present } from '../../kit/assert.ts';
import { loadConfig } from '../../kit/config.ts';
import { browserSessionRow } from '../contract/store/rows.ts';
import { StaticIssuer } from '../providers/static-issuer.ts';
import { ApiWorld } from './api-world.ts';
import { Tab } from './browser-tab.ts';
import { idOf } from './iam-world.ts';
import { underPolicy } from './lock-order.ts';

/**
 * What time does to sessions of browsers. Rows are put as time would have left them; how they come about is tested with real
 * providers (browser-session-suite.ts).
 */
const ORIGIN = 'https://gpuaas.example';
const COOKIE = '__Host-gpuaas-session';
const WHO_AM_I = '/gpuaas.system.v1.SystemService/WhoAmI';
const CREATE_TOKEN = '/gpuaas.tokens.v1.TokenService/CreateToken';
const MINUTE_MS = 60_000;
let issuer: StaticIssuer;
let world: ApiWorld;
let principalId: string;
let made = 0;

beforeAll(async () => {
	issuer = await StaticIssuer.start();
	const { oidc } = loadConfig(CONTROL_PLANE_SCHEMA, { env: {} }).values;
	world = await ApiWorld.start({
		oidc: { ...oidc, issuers: [issuer.issuer], stepUpAcr: ['gold'], stepUpMaxAgeMs: 5 * MINUTE_MS },
		web: { clientId: 'gpuaas-console', clientSecret: 'secret', origin: ORIGIN },
	});
	principalId = idOf(await world.addPrincipal('user', 'platform.operator', 'platform'));
});
afterAll(async () => {
	await world[Symbol.asyncDispose]();
	await issuer[Symbol.asyncDispose]();
});

const sha256 = (text: string) => createHash('sha256').update(text).digest();

/** A tab that has a session. */
async function session(more: Partial<BrowserSessionRow> = {}): Promise<Tab & { readonly id: string }> {
	made += 1;
	const [id, secret] = [`session-${made}`, `${made}`.padStart(43, 's')];
	const nowMs = world.deps.clock.now();
	const times = { createdAtMs: nowMs, rotatedAtMs: nowMs, checkedAtMs: nowMs, expiresAtMs: nowMs + 60 * MINUTE_MS };
	const row = browserSessionRow(id, principalId, { secretSha256: sha256(secret), ...times, ...more });
	await world.deps.store.unit((tx) => tx.browserSessions.insert(row));
	return Object.assign(tabWith(secret), { id });
}

function tabWith(secret: string): Tab {
	const tab = new Tab({ api: world }, ORIGIN);
	tab.cookies = { [COOKIE]: secret };
	return tab;
}

async function reasonOf(answer: ReturnType<Tab['call']>): Promise<string> {
	const { body, status } = await answer;
	return /"reason":"([A-Z_]+)"/.exec(body)?.[1] ?? String(status);
}

test('a cookie is exchanged after a quarter of an hour, and the old one counts a minute longer', async () => {
	const nowMs = world.deps.clock.now();
	const young = await session({ rotatedAtMs: nowMs - 14 * MINUTE_MS });
	expect((await young.send('/auth/session')).cookies).toEqual([]);

	const tab = await session({ rotatedAtMs: nowMs - 15 * MINUTE_MS });
	const before = present(tab.cookies[COOKIE], 'a cookie');
	const csrf = await tab.csrf();
	const after = present(tab.cookies[COOKIE], 'a cookie');
	expect(after).not.toBe(before);
	// A page keeps its token over the exchange, and what was under way ends well.
	expect(await tab.csrf()).toBe(csrf);
	expect(await reasonOf(tabWith(before).call(WHO_AM_I))).toBe('200');
	// The old one gets no new one: whoever copied it is out with its minute.
	expect((await tabWith(before).send('/auth/session')).cookies).toEqual([]);
	const next = 'n'.repeat(43);
	const to = { secretSha256: sha256(next), atMs: world.deps.clock.now() - MINUTE_MS };
	await world.deps.store.unit((tx) => tx.browserSessions.rotate(tab.id, sha256(after), to));
	expect(await reasonOf(tab.call(WHO_AM_I))).toBe('SESSION_ENDED');
	expect(await reasonOf(tabWith(next).call(WHO_AM_I))).toBe('200');
});

test('a session ends with its time, and with the person', async () => {
	const nowMs = world.deps.clock.now();
	const over = await session({ expiresAtMs: nowMs });
	expect(await reasonOf(over.call(WHO_AM_I))).toBe('SESSION_ENDED');
	expect(await reasonOf(over.send('/auth/session'))).toBe('SESSION_ENDED');
	const leaver = idOf(await world.addPrincipal('user', 'platform.operator', 'platform'));
	const tab = await session({ principalId: leaver });
	expect(await reasonOf(tab.call(WHO_AM_I))).toBe('200');
	const left = { disabledAtMs: 1, disabledReason: 'left' };
	await world.deps.store.unit(underPolicy((tx) => tx.identities.updatePrincipal(leaver, left)));
	expect(await reasonOf(tab.call(WHO_AM_I))).toBe('USER_DISABLED');
});

test('a change takes the token of this very session', async () => {
	const strong = { acr: 'gold', authenticatedAtMs: world.deps.clock.now() };
	const [tab, other] = [await session(strong), await session(strong)];
	expect(await reasonOf(tab.call(CREATE_TOKEN))).toBe('CSRF_REJECTED');
	expect(await reasonOf(tab.call(CREATE_TOKEN, await other.csrf()))).toBe('CSRF_REJECTED');
	expect(await reasonOf(tab.call(CREATE_TOKEN, await tab.csrf()))).toBe('200');
	const logout = tab.send('/auth/logout', { method: 'POST', headers: { 'x-csrf-token': await other.csrf() } });
	expect(await reasonOf(logout)).toBe('CSRF_REJECTED');
});

test('a session is stepped up by its class and for its age, and lasts longer than that', async () => {
	const nowMs = world.deps.clock.now();
	const changes = async (more: Partial<BrowserSessionRow>) => {
		const tab = await session(more);
		return await reasonOf(tab.call(CREATE_TOKEN, await tab.csrf()));
	};
	expect(await changes({ acr: 'gold', authenticatedAtMs: nowMs - 4 * MINUTE_MS })).toBe('200');
	expect(await changes({ acr: 'gold', authenticatedAtMs: nowMs - 5 * MINUTE_MS })).toBe('STEP_UP_REQUIRED');
	expect(await changes({ acr: 'silver', authenticatedAtMs: nowMs })).toBe('STEP_UP_REQUIRED');
});

test('an answer to a login that was begun too long ago is not used', async () => {
	const [state, secret] = ['a'.repeat(32), 'b'.repeat(43)];
	const nowMs = world.deps.clock.now();
	await world.deps.store.unit((tx) =>
		tx.browserSessions.insertAttempt({
			id: state,
			secretSha256: sha256(secret),
			issuer: issuer.issuer,
			sealed: new Uint8Array(),
			returnTo: '/',
			createdAtMs: nowMs - 10 * MINUTE_MS,
			expiresAtMs: nowMs,
			usedAtMs: null,
		}),
	);
	const tab = new Tab({ api: world }, ORIGIN);
	tab.cookies = { '__Host-gpuaas-login': secret };
	expect((await tab.send(`/auth/callback?code=x&state=${state}`)).body).toContain('it came too late');
});
