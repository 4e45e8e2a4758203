import { afterEach, beforeEach, expect, test } from 'vitest';
import { createAppendAudit } from '../../control-plane/app/audit/append.ts';
import { isSteppedUp } from '../../control-plane/app/iam/assurance.ts';
import { PolicyCache } from '../../control-plane/app/iam/policy-view.ts';
import { BrowserLogin } from '../../control-plane/app/login/browser-login.ts';
import { endLogins } from '../../control-plane/app/login/end-logins.ts';
import { Sealer } from '../../control-plane/app/login/seal.ts';
import { LOGIN_DEFAULT } from '../../control-plane/app/login/settings.ts';
import { TokenLogin } from '../../control-plane/app/login/token-login.ts';
import type { VerifiedToken } from '../../control-plane/app/login/token-verifier.ts';
import { createUser } from '../../control-plane/app/login/user.ts';
import { SqliteStore } from '../../control-plane/store/sqlite/store.ts';
import { systemClock } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import { systemRng as rng } from '../../kit/ids.ts';
import { silentLogger as log } from '../../kit/log.ts';

/** How logins of browsers end, and what they prove, where provider and store are not at their best: the real login on a real store. */
const ISSUER = 'https://id.example';
const NOW_MS = 1_800_000_000_000;

class World {
	readonly clock = { ...systemClock, now: () => NOW_MS };
	/** How many commits go well before one fails. */
	goodCommits = Number.POSITIVE_INFINITY;
	refreshToken = '';
	token: VerifiedToken = {
		issuer: ISSUER,
		subject: 's',
		tokenId: 't',
		clientId: 'console',
		sessionId: 'sid',
		acr: 'gold',
		amr: [],
		authenticatedAtMs: NOW_MS,
		issuedAtMs: NOW_MS,
		expiresAtMs: NOW_MS + 300_000,
		email: '',
		emailVerified: false,
		displayName: 'Ada',
		keysFresh: true,
	};
	readonly store = new SqliteStore({
		at: { memory: null },
		clock: this.clock,
		fault: (at) => {
			if (at !== 'commit') return undefined;
			this.goodCommits -= 1;
			return this.goodCommits === -1 ? 'IOERR' : undefined;
		},
	});
	readonly #base = {
		store: this.store,
		clock: this.clock,
		rng,
		log,
		appendAudit: createAppendAudit({ clock: this.clock, rng }),
		policies: new PolicyCache(),
		login: { ...LOGIN_DEFAULT, issuers: [ISSUER], stepUpAcr: ['gold'] },
	};
	readonly tokens = new TokenLogin({ ...this.#base, verifier: { verify: async () => this.token } });
	readonly browser = new BrowserLogin({
		...this.#base,
		sealer: new Sealer(rng.bytes(32), rng),
		tokens: this.tokens,
		provider: {
			begin: async () => ({ url: `${ISSUER}/authorize`, state: 'state', kept: { codeVerifier: 'v', nonce: 'n' } }),
			complete: async () => ({ accessToken: 'a', refreshToken: this.refreshToken }),
			refresh: async () => undefined,
			logoutUrl: async () => {
				throw new Error('the provider is down');
			},
		},
		logout: {
			verifyLogout: async () => ({
				issuer: ISSUER,
				subject: 's',
				sessionId: 'sid',
				issuedAtMs: this.token.issuedAtMs,
				tokenId: 'jti',
				expiresAtMs: NOW_MS + 240_000,
			}),
		},
	});

	async login(): Promise<string> {
		await this.store.unit((tx) => createUser(tx, this.token, NOW_MS, rng));
		const { secret } = await this.browser.begin(ISSUER, '/', false);
		const answer = new URL('https://cloud.example/auth/callback?state=state&code=c');
		return (await this.browser.complete(answer, { secret, before: '', peer: '::1', assertSame: () => {} })).secret;
	}

	who(secret: string) {
		return this.browser.actor(secret, { peer: '::1', header: () => null, isRead: true });
	}
}

async function refusalOf(call: Promise<unknown>): Promise<GpuaasError> {
	return GpuaasError.from(
		await call.then(
			() => undefined,
			(error: unknown) => error,
		),
	);
}

let world: World;
beforeEach(() => {
	world = new World();
});
afterEach(() => world.store[Symbol.asyncDispose]());

test('a session whose provider does not say when its person logged in is not stepped up, whatever its class', async () => {
	expect(isSteppedUp(await world.who(await world.login()), NOW_MS)).toBe(true);
	await world.store[Symbol.asyncDispose]();
	world = new World();
	world.token = { ...world.token, authenticatedAtMs: null };
	expect(isSteppedUp(await world.who(await world.login()), NOW_MS)).toBe(false);
});

test('a logout at the provider that could not be carried out may be told again, and one that was may not', async () => {
	const secret = await world.login();
	world.goodCommits = 0;
	expect(await refusalOf(world.browser.backchannel('notice'))).toMatchObject({ code: 'UNAVAILABLE' });
	expect((await world.who(secret)).displayName).toBe('Ada');
	await world.browser.backchannel('notice');
	expect(await refusalOf(world.who(secret))).toMatchObject({ reason: 'SESSION_ENDED' });
	expect(await refusalOf(world.browser.backchannel('notice'))).toMatchObject({ reason: 'LOGOUT_TOKEN_INVALID' });
});

test('a logout voids what the provider issued until then by its own clock, which may be ahead', async () => {
	await world.login();
	world.token = { ...world.token, issuedAtMs: NOW_MS + 20_000 };
	expect((await world.tokens.actor('a', '::1')).kind).toBe('user');
	await world.browser.backchannel('notice');
	expect(await refusalOf(world.tokens.actor('a', '::1'))).toMatchObject({ reason: 'LOGGED_OUT' });
	world.token = { ...world.token, issuedAtMs: NOW_MS + 21_000 };
	expect((await world.tokens.actor('a', '::1')).kind).toBe('user');
});

test('a token that ends its own login is void, also where it was issued ahead of our time', async () => {
	await world.login();
	const { issuer, subject, sessionId: providerSession } = world.token;
	const login = { issuer, subject, providerSession, why: 'logged out', issuedAtMs: NOW_MS + 20_000 };
	await world.store.unit((tx) => endLogins(tx, 'r', login, NOW_MS));
	world.token = { ...world.token, issuedAtMs: NOW_MS + 20_000 };
	expect(await refusalOf(world.tokens.actor('a', '::1'))).toMatchObject({ reason: 'LOGGED_OUT' });
});

test('whoever logs out is out, and told so, while the provider can’t be asked', async () => {
	const secret = await world.login();
	const { session } = await world.browser.look(secret, () => {});
	expect(await world.browser.end(secret, world.browser.csrfToken(session), () => {})).toBeUndefined();
	expect(await refusalOf(world.who(secret))).toMatchObject({ reason: 'SESSION_ENDED' });
});

test('whoever reads the database finds nothing to log in with: neither cookie nor what the provider gave', async () => {
	world.refreshToken = 'refresh-token-of-the-provider';
	const secret = await world.login();
	const [session] = await world.store.read((tx) => tx.browserSessions.openOf(ISSUER, 's', ''));
	const texts = Object.values({ ...session }).map((value) =>
		value instanceof Uint8Array ? Buffer.from(value).toString('latin1') : String(value),
	);
	expect(session?.sealedRefresh).toBeInstanceOf(Uint8Array);
	for (const text of texts) {
		expect(text).not.toContain(secret);
		expect(text).not.toContain(world.refreshToken);
	}
});
