import { afterEach, expect, test } from 'vitest';
import { systemClock } from '../../kit/clock.ts';
import { silentLogger as log } from '../../kit/log.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { SqliteStore } from '../store/sqlite/store.ts';
import { LoginReconciler } from './logins.ts';

/** When sessions are looked at, in virtual time; what a look does is tested with providers (test/integration/login-checks.test.ts). */
const MINUTE_MS = 60_000;
const clock = new VirtualClock();
const stores: SqliteStore[] = [];
afterEach(async () => {
	for (const store of stores.splice(0)) await store[Symbol.asyncDispose]();
});

function world(reconcile: (olderThanMs: number, limit: number, signal?: AbortSignal) => Promise<number>) {
	const store = new SqliteStore({ at: { memory: null }, clock: systemClock });
	stores.push(store);
	return { store, reconciler: new LoginReconciler({ browser: { reconcile } as never, store, clock, log }) };
}

test('sessions that nobody asked about for five minutes are looked at each minute, whatever became of the last look', async () => {
	const looks: number[] = [];
	const { reconciler } = world(async (olderThanMs) => {
		looks.push(olderThanMs);
		throw new Error('the store is away');
	});
	await using _ = reconciler;
	clock.advance(MINUTE_MS - 1);
	expect(looks).toEqual([]);
	clock.advance(1);
	// A look under way is the only one.
	clock.advance(MINUTE_MS);
	expect(looks).toEqual([5 * MINUTE_MS]);
	// It ends, and the next one comes with a minute.
	await expect
		.poll(() => {
			clock.advance(MINUTE_MS);
			return looks.length;
		})
		.toBeGreaterThan(1);
});

test('what is over is removed with the look: ids of logout tokens, and logins that were never answered', async () => {
	const { store, reconciler } = world(async () => 0);
	await using _ = reconciler;
	const nowMs = clock.now();
	const attempt = { secretSha256: new Uint8Array(32), issuer: 'i', sealed: new Uint8Array(), returnTo: '/' };
	await store.unit(function* (tx) {
		yield* tx.logins.useTokenId('old', nowMs - 1);
		yield* tx.logins.useTokenId('new', nowMs + MINUTE_MS);
		for (const [id, expiresAtMs] of [
			['yesterday', nowMs - 25 * 60 * MINUTE_MS],
			['now', nowMs + MINUTE_MS],
		] as const)
			yield* tx.browserSessions.insertAttempt({ ...attempt, id, createdAtMs: 1, expiresAtMs, usedAtMs: null });
	});
	await reconciler.run();
	const has = (id: string) => store.read((tx) => tx.browserSessions.hasAttempt(id));
	expect([await has('yesterday'), await has('now')]).toEqual([false, true]);
	// Gone, so that it could come again; its end has passed anyway.
	const unused = (id: string) => store.unit((tx) => tx.logins.useTokenId(id, nowMs));
	expect([await unused('old'), await unused('new')]).toEqual([true, false]);
});

test('a control plane that stops tells the look so, and waits for what is under way', async () => {
	let stopped: AbortSignal | undefined;
	let isDone = false;
	const { reconciler } = world(async (_age, _limit, signal) => {
		stopped = signal;
		await new Promise<void>((resolve) => signal?.addEventListener('abort', () => systemClock.defer(resolve)));
		isDone = true;
		return 0;
	});
	clock.advance(MINUTE_MS);
	await reconciler[Symbol.asyncDispose]();
	expect([stopped?.aborted, isDone]).toEqual([true, true]);
});
