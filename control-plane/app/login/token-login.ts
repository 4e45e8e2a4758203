import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import type { Rng } from '../../../kit/ids.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import type { Logger } from '../../../kit/log.ts';
import type { Assurance, RequestContext } from '../../context.ts';
import type { Store, Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AppendAudit } from '../audit/event.ts';
import type { PolicyCache } from '../iam/policy-view.ts';
import { ANONYMOUS, loadActor, NO_LIMITS, type PrincipalActor, unusablePrincipal } from '../iam/principal.ts';
import { emailDomain } from './email-domain.ts';
import { loginRefused } from './refusals.ts';
import { retireBootstrap } from './retire-bootstrap.ts';
import type { LoginSettings } from './settings.ts';
import type { TokenVerifier, VerifiedToken } from './token-verifier.ts';
import { createUser, findUser } from './user.ts';

export interface TokenLoginDeps {
	readonly store: Store;
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	readonly appendAudit: AppendAudit;
	readonly verifier: TokenVerifier;
	readonly login: LoginSettings;
	readonly policies: PolicyCache;
}

/**
 * From an access token to the person here. Whoever is unknown comes in if their verified address is of a domain that
 * belongs to an organization; else the actor is anonymous and carries the token, with which an invitation can be
 * accepted and nothing else. Each login (not each request) leaves an audit record.
 */
export class TokenLogin {
	readonly #deps: TokenLoginDeps;

	constructor(deps: TokenLoginDeps) {
		this.#deps = deps;
	}

	async actor(token: string, peer: string): Promise<PrincipalActor> {
		const verified = await this.#deps.verifier.verify(token);
		const nowMs = this.#deps.clock.now();
		const found = await this.#deps.store.read((tx) => this.#find(tx, verified, nowMs));
		if (found === undefined) return await this.#admit(verified, peer, nowMs);
		if (found.isNewLogin) await this.#record(found.actor, verified, peer, nowMs);
		return found.actor;
	}

	*#find(tx: Tx, token: VerifiedToken, nowMs: number): Plan<Found | undefined> {
		const { issuer, subject, sessionId } = token;
		const revokedAtMs = yield* tx.logins.revokedAt(issuer, subject, sessionId);
		if (revokedAtMs !== undefined && token.issuedAtMs <= revokedAtMs) throw loginRefused('LOGGED_OUT');
		const user = yield* findUser(tx, token);
		if (user === undefined) return undefined;
		const { principal, identity } = user;
		const view = yield* this.#deps.policies.committed(tx);
		if ((yield* unusablePrincipal(tx, view, principal)) !== undefined) throw loginRefused('USER_DISABLED');
		const assurance = assuranceOf(token, this.#deps.login);
		const { tokenId: id, expiresAtMs } = token;
		const credential = { kind: 'access_token', id, expiresAtMs, limits: NO_LIMITS, assurance } as const;
		const actor = { ...(yield* loadActor(tx, view, principal, credential, nowMs)), login: token };
		return { actor, isNewLogin: loginTimeOf(token) > (identity.lastLoginAtMs ?? 0) };
	}

	async #admit(token: VerifiedToken, peer: string, nowMs: number): Promise<PrincipalActor> {
		const stranger: PrincipalActor = { ...ANONYMOUS, login: token };
		const domain = token.emailVerified ? emailDomain(token.email) : '';
		if (domain === '') return stranger;
		const { store, rng, appendAudit, log, clock } = this.#deps;
		const ctx = this.#context(stranger, peer);
		try {
			const isIn = await store.unit(function* (tx) {
				const owned = yield* tx.logins.getDomain(token.issuer, domain);
				if (owned === undefined) return false;
				const [there] = yield* tx.scopes.getMany([`organizations/${owned.organization}`]);
				// Else every request of theirs would hold up all who change who may do what.
				if (there?.state !== 'active') return false;
				// Before the scope, as all do who change who may do what.
				yield* tx.access.lockPolicy();
				const scope = yield* tx.scopes.get(`organizations/${owned.organization}`);
				if (scope?.state !== 'active') return false;
				const { principal } = yield* createUser(tx, token, nowMs, rng);
				const { organization } = owned;
				yield* tx.identities.insertMember({
					organization,
					principalId: principal.id,
					joinedAtMs: nowMs,
					addedBy: `domain ${domain}`,
				});
				yield* appendAudit(tx, ctx, {
					action: 'users.create',
					target: `principals/${principal.id}`,
					organization,
					result: 'ok',
					reason: '',
					detail: { by: 'domain', domain, issuer: token.issuer },
					personal: { email: token.email },
				});
				return true;
			});
			if (!isIn) return stranger;
		} catch (error) {
			// Two first requests at once: the other one made the user.
			if (!(error instanceof GpuaasError) || error.code !== 'ALREADY_EXISTS') throw error;
		}
		const found = await store.read((tx) => this.#find(tx, token, clock.now()));
		if (found === undefined) return stranger;
		log.info('a person came in by their verified domain', { principal: found.actor.id, domain });
		await this.#record(found.actor, token, peer, nowMs);
		return found.actor;
	}

	async #record(actor: PrincipalActor, token: VerifiedToken, peer: string, nowMs: number): Promise<void> {
		const { store, appendAudit } = this.#deps;
		const ctx = this.#context(actor, peer);
		const { issuer, subject, email, emailVerified } = token;
		await store.unit(function* (tx) {
			const identity = yield* tx.identities.getUserIdentity(issuer, subject);
			if (identity === undefined || loginTimeOf(token) <= (identity.lastLoginAtMs ?? 0)) return;
			yield* tx.identities.recordLogin(issuer, subject, {
				email,
				emailVerified,
				lastLoginAtMs: loginTimeOf(token),
				lastAcr: token.acr.slice(0, ASSURANCE_CHARS_MAX),
				lastAmr: token.amr.join(' ').slice(0, ASSURANCE_CHARS_MAX),
				lastAuthTimeMs: token.authenticatedAtMs ?? null,
			});
			yield* appendAudit(tx, ctx, {
				action: 'logins.start',
				target: `principals/${actor.id}`,
				result: 'ok',
				reason: '',
				detail: { issuer, client: token.clientId, acr: token.acr, amr: token.amr.join(' ') },
			});
			yield* retireBootstrap(tx, ctx, { appendAudit }, actor.id, nowMs);
		});
	}

	#context(actor: PrincipalActor, peer: string): RequestContext {
		const { clock, rng, log } = this.#deps;
		return {
			actor,
			correlationId: uuidv7(clock.now(), rng),
			method: 'login',
			requestId: '',
			peer,
			deadlineMs: Number.POSITIVE_INFINITY,
			signal: new AbortController().signal,
			log,
		};
	}
}

/** A provider's own words, kept to be shown. */
const ASSURANCE_CHARS_MAX = 256;

interface Found {
	readonly actor: PrincipalActor;
	readonly isNewLogin: boolean;
}

export function assuranceOf(
	token: Pick<VerifiedToken, 'issuer' | 'acr' | 'authenticatedAtMs' | 'keysFresh'>,
	{ stepUpAcr, stepUpMaxAgeMs }: LoginSettings,
): Assurance {
	const { issuer, acr, keysFresh } = token;
	const authTimeMs = token.authenticatedAtMs ?? 0;
	const isStrong = keysFresh && authTimeMs > 0 && stepUpAcr.includes(acr);
	return { issuer, acr, authTimeMs, keysFresh, strongUntilMs: isStrong ? authTimeMs + stepUpMaxAgeMs : 0 };
}

/** Providers that don't say when the person logged in: each token counts. */
function loginTimeOf(token: VerifiedToken): number {
	return token.authenticatedAtMs ?? token.issuedAtMs;
}
