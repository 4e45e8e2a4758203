import { createHash, timingSafeEqual } from 'node:crypto';
import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import type { Rng } from '../../../kit/ids.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import type { Logger } from '../../../kit/log.ts';
import { systemContext } from '../../context.ts';
import type { BrowserSessionRow } from '../../store/port/browser-sessions.ts';
import type { Store, Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AppendAudit } from '../audit/event.ts';
import type { PresentedRequest } from '../iam/authenticate.ts';
import type { PolicyCache } from '../iam/policy-view.ts';
import { loadActor, NO_LIMITS, type PrincipalActor, unusablePrincipal } from '../iam/principal.ts';
import { checkSessions } from './check-sessions.ts';
import type { AssertSame } from './edge-gate.ts';
import { type EndedLogin, endLogins } from './end-logins.ts';
import { loginRefused } from './refusals.ts';
import type { Sealer } from './seal.ts';
import type { LoginSettings } from './settings.ts';
import { assuranceOf, type TokenLogin } from './token-login.ts';
import type { Person } from './token-verifier.ts';
import type { LogoutVerifier, WebProvider } from './web-provider.ts';

export interface BrowserLoginDeps {
	readonly store: Store;
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	readonly appendAudit: AppendAudit;
	readonly policies: PolicyCache;
	readonly login: LoginSettings;
	readonly sealer: Sealer;
	readonly tokens: TokenLogin;
	readonly provider: WebProvider;
	readonly logout: LogoutVerifier;
}

/** Time for a person at the provider's pages. */
export const ATTEMPT_TTL_MS = 600_000;
/** A working day; a step-up makes a new session. */
export const SESSION_TTL_MS = 8 * 3_600_000;
/** A cookie that was copied is worth little for long. */
export const ROTATE_AFTER_MS = 900_000;
/** Requests that were under way at a rotation. */
const PREVIOUS_GRACE_MS = 60_000;

/** Whose answer it is, as far as its request tells. */
export interface AnsweringBrowser {
	/** Of the login that it began. */
	readonly secret: string;
	/** Of its session until now; empty: none. */
	readonly before: string;
	readonly peer: string;
	readonly assertSame: AssertSame;
}

export interface NewSession {
	/** For the cookie. */
	readonly secret: string;
	readonly expiresAtMs: number;
	readonly returnTo: string;
}

/**
 * Logins of browsers: the provider's tokens never reach the page. The browser holds one cookie whose secret is kept as a
 * hash and rotated; a change needs a token that only a page of ours can read. Called by api/auth-routes.ts.
 */
export class BrowserLogin {
	readonly #deps: BrowserLoginDeps;

	constructor(deps: BrowserLoginDeps) {
		this.#deps = deps;
	}

	/** Where to send the browser, and the secret that binds the answer to it. */
	async begin(issuer: string, returnTo: string, isStepUp: boolean): Promise<{ url: string; secret: string }> {
		const { store, clock, rng, login, provider, sealer } = this.#deps;
		const acr = login.stepUpAcr[0];
		const wish = isStepUp && acr !== undefined ? { acr, maxAgeS: Math.floor(login.stepUpMaxAgeMs / 1000) } : undefined;
		const { url, state, kept } = await provider.begin(issuer, wish);
		const secret = newSecret(rng);
		const nowMs = clock.now();
		await store.unit((tx) =>
			tx.browserSessions.insertAttempt({
				id: state,
				secretSha256: sha256(secret),
				issuer,
				sealed: sealer.seal(`attempt ${state}`, JSON.stringify(kept)),
				returnTo,
				createdAtMs: nowMs,
				expiresAtMs: nowMs + ATTEMPT_TTL_MS,
				usedAtMs: null,
			}),
		);
		return { url, secret };
	}

	/** The browser's answer: once, by the browser that began, in time. Makes the session; an older one of it ends. */
	async complete(answer: URL, { secret, before, peer, assertSame }: AnsweringBrowser): Promise<NewSession> {
		const { store, clock, rng, provider, sealer, tokens } = this.#deps;
		const state = answer.searchParams.get('state') ?? '';
		const nowMs = clock.now();
		const unknown = 'it belongs to no login that was begun here, or was used before';
		// Strangers invent these: the one writer is for those that there are.
		const isKnown = await store.read((tx) => tx.browserSessions.hasAttempt(state));
		if (!isKnown) throw stateInvalid(unknown);
		const attempt = await store.unit((tx) => tx.browserSessions.useAttempt(state, nowMs));
		if (attempt === undefined) throw stateInvalid(unknown);
		if (nowMs >= attempt.expiresAtMs) throw stateInvalid('it came too late');
		if (!same(sha256(secret), attempt.secretSha256)) throw stateInvalid('another browser began this login');
		const kept = sealer.open(`attempt ${state}`, attempt.sealed);
		if (kept === undefined) throw stateInvalid('it was begun under another key');
		const given = await provider.complete(attempt.issuer, answer, state, JSON.parse(kept));
		const actor = await tokens.actor(given.accessToken, peer);
		const { login } = actor;
		if (login === undefined || actor.kind !== 'user') throw loginRefused('USER_NOT_INVITED');
		assertSame(login);
		const fresh = newSecret(rng);
		const id = uuidv7(nowMs, rng);
		const row: BrowserSessionRow = {
			id,
			secretSha256: sha256(fresh),
			previousSha256: null,
			principalId: actor.id,
			issuer: login.issuer,
			subject: login.subject,
			providerSession: login.sessionId,
			acr: login.acr,
			// Unknown is weak, as with a token: a session that goes on at the provider proves nothing of now.
			authenticatedAtMs: login.authenticatedAtMs ?? 0,
			sealedRefresh: given.refreshToken === '' ? null : sealer.seal(`session ${id}`, given.refreshToken),
			createdAtMs: nowMs,
			rotatedAtMs: nowMs,
			checkedAtMs: nowMs,
			expiresAtMs: nowMs + SESSION_TTL_MS,
			endedAtMs: null,
			endedReason: '',
		};
		await store.unit(function* (tx) {
			const old = before === '' ? undefined : yield* tx.browserSessions.getBySecret(sha256(before));
			// Before the session, as all do who change who may do what.
			if (old !== undefined) yield* tx.access.lockPolicy();
			if (old !== undefined) yield* tx.browserSessions.end(old.id, 'logged in again', nowMs);
			yield* tx.browserSessions.insert(row);
		});
		return { secret: fresh, expiresAtMs: row.expiresAtMs, returnTo: attempt.returnTo };
	}

	/** Who a request with this cookie is from. Changes need the session's own token: a forged form can't read it. */
	async actor(secret: string, request: PresentedRequest): Promise<PrincipalActor> {
		const { store, clock, policies, login } = this.#deps;
		const nowMs = clock.now();
		const { session, actor } = await store.read(function* (tx) {
			const session = yield* tx.browserSessions.getBySecret(sha256(secret));
			if (session === undefined || !isOpen(session, secret, nowMs)) throw sessionEnded();
			const principal = yield* tx.identities.getPrincipal(session.principalId);
			const view = yield* policies.committed(tx);
			if (principal === undefined || (yield* unusablePrincipal(tx, view, principal)) !== undefined)
				throw loginRefused('USER_DISABLED');
			const { issuer, acr, authenticatedAtMs, expiresAtMs } = session;
			const assurance = assuranceOf({ issuer, acr, authenticatedAtMs, keysFresh: true }, login);
			const credential = {
				kind: 'browser_session',
				id: session.id,
				expiresAtMs,
				limits: NO_LIMITS,
				assurance,
			} as const;
			const actor = yield* loadActor(tx, view, principal, credential, nowMs);
			const person = yield* personOf(tx, session);
			return { session, actor: person === undefined ? actor : { ...actor, person } };
		});
		if (
			!request.isRead &&
			!same(Buffer.from(request.header('x-csrf-token') ?? ''), Buffer.from(this.csrfToken(session)))
		)
			throw forged();
		return actor;
	}

	/** What the page may know of its session; with a new secret when the old one has served its time. */
	async look(
		secret: string,
		assertSame: AssertSame,
	): Promise<{ readonly session: BrowserSessionRow; readonly rotated: string | undefined }> {
		const { store, clock, rng } = this.#deps;
		const nowMs = clock.now();
		const { session, person } = await store.read(function* (tx) {
			const session = yield* tx.browserSessions.getBySecret(sha256(secret));
			if (session === undefined || !isOpen(session, secret, nowMs)) throw sessionEnded();
			return { session, person: yield* personOf(tx, session) };
		});
		assertSame(person);
		const isCurrent = same(sha256(secret), session.secretSha256);
		if (!isCurrent || nowMs - session.rotatedAtMs < ROTATE_AFTER_MS) return { session, rotated: undefined };
		const fresh = newSecret(rng);
		const to = { secretSha256: sha256(fresh), atMs: nowMs };
		const changed = await store.unit((tx) => tx.browserSessions.rotate(session.id, sha256(secret), to));
		return changed === undefined ? { session, rotated: undefined } : { session: changed, rotated: fresh };
	}

	/** Ends the session; where the browser may log out at the provider too. */
	async end(secret: string, csrf: string, assertSame: AssertSame): Promise<string | undefined> {
		const { session } = await this.look(secret, assertSame);
		if (!same(Buffer.from(csrf), Buffer.from(this.csrfToken(session)))) throw forged();
		const { issuer, subject, providerSession } = session;
		await this.#endAll({ issuer, subject, providerSession }, session.id, 'logged out');
		// It has ended here, whatever the provider can be asked.
		return await this.#deps.provider.logoutUrl(issuer).catch((error: unknown) => {
			this.#deps.log.warn('where to log out at the provider is not known now', { issuer, error });
			return undefined;
		});
	}

	/** The provider says that a person logged out there. */
	async backchannel(token: string): Promise<void> {
		const notice = await this.#deps.logout.verifyLogout(token);
		const { issuer, subject, sessionId: providerSession, issuedAtMs, tokenId, expiresAtMs } = notice;
		// In the unit that ends them: what could not be carried out may be told again.
		await this.#endAll(
			{ issuer, subject, providerSession, issuedAtMs },
			'',
			'logged out at the provider',
			function* (tx) {
				if (!(yield* tx.logins.useTokenId(`${issuer} ${tokenId}`, expiresAtMs))) throw logoutReplayed();
			},
		);
	}

	/** Asks the provider about sessions that weren't asked about lately: somebody disabled there is out here. */
	async reconcile(olderThanMs: number, limit: number, signal?: AbortSignal): Promise<number> {
		return await checkSessions(this.#deps, olderThanMs, limit, signal);
	}

	/** Of the session, not of its secret, so that a page keeps it over a rotation. */
	csrfToken({ id }: Pick<BrowserSessionRow, 'id'>): string {
		return this.#deps.sealer.mac(`csrf ${id}`);
	}

	async #endAll(
		of: Omit<EndedLogin, 'why'>,
		sessionId: string,
		why: string,
		first?: (tx: Tx) => Plan<void>,
	): Promise<void> {
		const { store, clock, rng, log, appendAudit } = this.#deps;
		const nowMs = clock.now();
		const id = uuidv7(nowMs, rng);
		const ctx = systemContext('login', clock, log, id);
		await store.unit(function* (tx) {
			yield* tx.access.lockPolicy();
			if (first !== undefined) yield* first(tx);
			if (sessionId !== '') yield* tx.browserSessions.end(sessionId, why, nowMs);
			const ended = yield* endLogins(tx, id, { ...of, why }, nowMs);
			yield* appendAudit(tx, ctx, {
				action: 'logins.end',
				target: `logins/${id}`,
				result: 'ok',
				reason: '',
				detail: { issuer: of.issuer, why, browser_sessions: ended + (sessionId === '' ? 0 : 1) },
			});
		});
	}
}

/** With the address that their last login brought. */
function* personOf(tx: Tx, { issuer, subject }: BrowserSessionRow): Plan<Person | undefined> {
	return yield* tx.identities.getUserIdentity(issuer, subject);
}

function isOpen(session: BrowserSessionRow, secret: string, nowMs: number): boolean {
	if (session.endedAtMs !== null || nowMs >= session.expiresAtMs) return false;
	return same(sha256(secret), session.secretSha256) || nowMs - session.rotatedAtMs < PREVIOUS_GRACE_MS;
}

function newSecret(rng: Rng): string {
	return Buffer.from(rng.bytes(32)).toString('base64url');
}

function sha256(text: string): Uint8Array {
	return createHash('sha256').update(text).digest();
}

function same(left: Uint8Array, right: Uint8Array): boolean {
	return left.length === right.length && timingSafeEqual(left, right);
}

function stateInvalid(why: string): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'LOGIN_STATE_INVALID',
		message: `this answer of the provider is not used: ${why}; nobody was logged in. Start again from the login page`,
	});
}

function sessionEnded(): GpuaasError {
	return new GpuaasError({
		code: 'UNAUTHENTICATED',
		reason: 'SESSION_ENDED',
		message: 'this session is over; log in again',
	});
}

function forged(): GpuaasError {
	return new GpuaasError({
		code: 'PERMISSION_DENIED',
		reason: 'CSRF_REJECTED',
		message:
			'the request lacks the token of its session (x-csrf-token), so it may have been forged; nothing was done. Reload the page',
	});
}

function logoutReplayed(): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'LOGOUT_TOKEN_INVALID',
		message: 'this logout token was used before',
	});
}
