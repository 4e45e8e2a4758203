import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type CheckDeps, checkSessions } from '../../control-plane/app/login/check-sessions.ts';
import { Sealer } from '../../control-plane/app/login/seal.ts';
import type { WebTokens } from '../../control-plane/app/login/web-provider.ts';
import { GpuaasError } from '../../kit/error.ts';
import { principalRow } from '../contract/store/rows.ts';
import { ApiWorld } from './api-world.ts';

/** Real store and clock; what providers answer is said by each test, for real ones can't be made to fail on cue. */
const [UP, DOWN] = ['https://up.example', 'https://down.example'];
let world: ApiWorld;
let sealer: Sealer;
let asked: string[];

beforeAll(async () => {
	world = await ApiWorld.start();
	sealer = new Sealer(new Uint8Array(32).fill(1), world.deps.rng);
	await world.deps.store.unit((tx) => tx.identities.insertPrincipal(principalRow('ada')));
});
afterAll(() => world[Symbol.asyncDispose]());
beforeEach(() => {
	asked = [];
});

async function session(id: string, issuer: string, checkedAtMs: number, by = sealer): Promise<void> {
	const { store, clock } = world.deps;
	await store.unit((tx) =>
		tx.browserSessions.insert({
			id,
			secretSha256: Buffer.from(id.padEnd(32, '-')),
			previousSha256: null,
			principalId: 'ada',
			issuer,
			subject: 'ada',
			providerSession: '',
			acr: '',
			authenticatedAtMs: 1,
			sealedRefresh: by.seal(`session ${id}`, `token of ${id}`),
			createdAtMs: 1,
			rotatedAtMs: 1,
			checkedAtMs,
			expiresAtMs: clock.now() + 3_600_000,
			endedAtMs: null,
			endedReason: '',
		}),
	);
}

function deps(answer: (token: string) => Promise<WebTokens | undefined>): CheckDeps {
	const refresh = async (issuer: string, token: string) => {
		asked.push(token);
		if (issuer === DOWN) throw new GpuaasError({ code: 'UNAVAILABLE', reason: 'ISSUER_UNAVAILABLE', message: 'down' });
		return await answer(token);
	};
	return { ...world.deps, sealer, provider: { refresh } };
}

const fine = async (token: string) => ({ accessToken: 'a', refreshToken: `${token}!` });
const check = (limit: number, answer = fine) => checkSessions(deps(answer), 60_000, limit);

test('a provider that is down, and tokens of another key, keep no other session from being looked at', async () => {
	await session('down-1', DOWN, 1);
	await session('down-2', DOWN, 2);
	await session('foreign', UP, 3, new Sealer(new Uint8Array(32).fill(2), world.deps.rng));
	await session('up-1', UP, 4);
	expect(await check(3)).toBe(0);
	expect(asked).toEqual(['token of down-1']);
	expect(await check(3)).toBe(0);
	expect(asked).toEqual(['token of down-1', 'token of up-1']);
	expect(await check(3)).toBe(0);
	expect(asked).toHaveLength(2);
});

test('in one round, too: the next provider is asked after one that is down', async () => {
	await session('down-3', DOWN, 1);
	await session('down-4', DOWN, 2);
	await session('up-2', UP, 3);
	await check(10);
	expect(asked).toEqual(['token of down-3', 'token of up-2']);
});

test('whoever stops asks about no other session, and keeps what the one under way brings', async () => {
	await session('last', UP, 1);
	await session('never', UP, 2);
	const stop = new AbortController();
	const answer = async (token: string) => {
		stop.abort();
		return await fine(token);
	};
	await checkSessions(deps(answer), 60_000, 10, stop.signal);
	expect(asked).toEqual(['token of last']);
	const sealed = (await world.deps.store.read((tx) => tx.browserSessions.get('last')))?.sealedRefresh;
	expect(sealer.open('session last', sealed ?? new Uint8Array())).toBe('token of last!');
	await check(10);
	expect(asked).toEqual(['token of last', 'token of never']);
});

test('two replicas spend one refresh token once', async () => {
	await session('shared', UP, 1);
	const [one, two] = [deps(fine), deps(fine)];
	await Promise.all([checkSessions(one, 60_000, 10), checkSessions(two, 60_000, 10)]);
	expect(asked).toEqual(['token of shared']);
});

test('an end at the provider leaves one record', async () => {
	await session('over', UP, 1);
	expect(await check(10, async () => undefined as never)).toBe(1);
	const records = (await world.audit()).filter(({ target }) => target === 'logins/over');
	expect(records).toMatchObject([{ action: 'logins.end', result: 'ok', detail: { principal: 'ada', issuer: UP } }]);
	expect(JSON.stringify(records)).not.toContain('token of');
	expect((await world.deps.store.read((tx) => tx.browserSessions.get('over')))?.endedReason).toBe(
		'over at the provider',
	);
});
