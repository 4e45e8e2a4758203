import { expect, test } from 'vitest';
import { freshActor } from '../../../control-plane/app/iam/fresh-actor.ts';
import { PolicyCache } from '../../../control-plane/app/iam/policy-view.ts';
import {
	type CredentialKind,
	loadActor,
	loadCredential,
	NO_LIMITS,
	type PrincipalActor,
} from '../../../control-plane/app/iam/principal.ts';
import type { VerifiedToken } from '../../../control-plane/app/login/token-verifier.ts';
import type { BreakGlassGrantRow } from '../../../control-plane/store/port/break-glass.ts';
import type { Store } from '../../../control-plane/store/port/store.ts';
import { present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { browserSessionRow, credentialRow, principalRow } from './rows.ts';
import { eachStore } from './stores.ts';

/** Who goes on while a request or a stream runs, on each store: a credential's own end, and what ends it before. */
const END_MS = 1000;

async function actorOf(store: Store, kind: CredentialKind, id: string): Promise<PrincipalActor> {
	await store.unit(function* (tx) {
		if ((yield* tx.identities.getPrincipal('ada')) === undefined)
			yield* tx.identities.insertPrincipal(principalRow('ada'));
		if (kind === 'api_key') yield* tx.apiKeys.insertCredential(credentialRow(id, 'ada', { expiresAtMs: END_MS }));
		if (kind === 'browser_session')
			yield* tx.browserSessions.insert(browserSessionRow(id, 'ada', { expiresAtMs: END_MS }));
	});
	return await store.read(function* (tx) {
		const view = yield* new PolicyCache().committed(tx);
		if (kind === 'api_key') return present(yield* loadCredential(tx, view, id, 1), 'it is there').actor;
		const principal = present(yield* tx.identities.getPrincipal('ada'), 'it is there');
		return yield* loadActor(tx, view, principal, { kind, id, expiresAtMs: END_MS, limits: NO_LIMITS }, 1);
	});
}

function lookAt(store: Store, actor: PrincipalActor, nowMs: number): Promise<string> {
	const look = store.read(function* (tx) {
		return yield* freshActor(tx, yield* new PolicyCache().committed(tx), actor, nowMs);
	});
	return look.then(
		({ id }) => id,
		(error: unknown) => GpuaasError.from(error).reason,
	);
}

eachStore('an actor that goes on', (kind) => {
	test.each([
		['api_key', 'UNAUTHENTICATED'],
		['access_token', 'ACCESS_TOKEN_EXPIRED'],
		['browser_session', 'SESSION_ENDED'],
		['break_glass', 'BREAK_GLASS_INVALID'],
	] as const)('%s: goes no further than its credential, though no epoch tells', async (credential, reason) => {
		await using under = await kind.create();
		const actor = await actorOf(under.store, credential, 'c');
		expect(await lookAt(under.store, actor, END_MS - 1)).toBe('ada');
		expect(await lookAt(under.store, actor, END_MS)).toBe(reason);
	});

	test('a session of a browser that was ended ends what it began, and no other does', async () => {
		await using under = await kind.create();
		const { store } = under;
		const [left, kept] = [await actorOf(store, 'browser_session', 's1'), await actorOf(store, 'browser_session', 's2')];
		await store.unit((tx) => tx.browserSessions.end('s1', 'logged out', 2));
		expect(await lookAt(store, left, 3)).toBe('UNAUTHENTICATED');
		expect(await lookAt(store, kept, 3)).toBe('ada');
		const gone = { ...kept, credentialId: 'never was' };
		expect(await lookAt(store, gone, 3)).toBe('UNAUTHENTICATED');
	});

	test('whatever is withdrawn ends what it began: a key, a login, break-glass, a person', async () => {
		await using under = await kind.create();
		const { store } = under;
		const key = await actorOf(store, 'api_key', 'k');
		const login = { issuer: 'https://id.example', subject: 'ada', sessionId: 's', issuedAtMs: 1 } as VerifiedToken;
		const token = { ...(await actorOf(store, 'access_token', 't')), login };
		const glass = await actorOf(store, 'break_glass', 'g');
		await store.unit((tx) => tx.breakGlass.insertGrant(GRANT));
		for (const actor of [key, token, glass]) expect(await lookAt(store, actor, 3)).toBe('ada');
		const revocation = { id: 'r', subject: '', providerSession: 's', revokedAtMs: 2, expiresAtMs: END_MS };
		await store.unit((tx) => tx.logins.insertRevocation({ ...revocation, issuer: login.issuer }));
		expect(await lookAt(store, token, 3)).toBe('UNAUTHENTICATED');
		expect(await lookAt(store, { ...token, login: { ...login, sessionId: 'another' } }, 3)).toBe('ada');
		expect(await lookAt(store, { ...token, login: { ...login, issuedAtMs: 3 } }, 3)).toBe('ada');
		expect(await lookAt(store, glass, 3)).toBe('ada');
		await store.unit((tx) => tx.breakGlass.end('g', 2));
		expect(await lookAt(store, glass, 3)).toBe('UNAUTHENTICATED');
		expect(await lookAt(store, key, 3)).toBe('ada');
		await store.unit((tx) => tx.apiKeys.revokeCredential('k', 2));
		expect(await lookAt(store, key, 3)).toBe('UNAUTHENTICATED');
		const session = await actorOf(store, 'browser_session', 'b');
		expect(await lookAt(store, session, 3)).toBe('ada');
		await store.unit((tx) => tx.identities.updatePrincipal('ada', { disabledAtMs: 2, disabledReason: 'left' }));
		expect(await lookAt(store, session, 3)).toBe('UNAUTHENTICATED');
	});
});

const GRANT: BreakGlassGrantRow = {
	id: 'g',
	challenge: new Uint8Array(1),
	reason: '',
	peer: '',
	requestedAtMs: 1,
	challengeExpiresAtMs: 9,
	signers: [],
	secretSha256: new Uint8Array(32),
	activatedAtMs: 1,
	expiresAtMs: END_MS,
	endedAtMs: null,
	version: 1,
};
