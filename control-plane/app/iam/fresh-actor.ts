import { GpuaasError } from '../../../kit/error.ts';
import type { Tx } from '../../store/port/store.ts';
import { asPlatform, type Plan } from '../../store/port/unit.ts';
import type { PolicyView } from './policy-view.ts';
import {
	type CredentialKind,
	loadActor,
	loadCredential,
	type PrincipalActor,
	type Unusable,
	unusable,
	unusablePrincipal,
} from './principal.ts';

/**
 * The actor as of now: whatever was revoked or given since the request was authenticated counts, and its credential's
 * end too, which raises no epoch. Costs nothing while the policy epoch stands still. Throws UNAUTHENTICATED.
 */
export function* freshActor(tx: Tx, view: PolicyView, actor: PrincipalActor, nowMs: number): Plan<PrincipalActor> {
	const { credentialKind, credentialExpiresAtMs } = actor;
	if (credentialExpiresAtMs !== null && nowMs >= credentialExpiresAtMs) throw expired(credentialKind);
	if (credentialKind === 'none') return actor;
	if (view.epoch === actor.policyEpoch && nowMs < actor.access.validUntilMs) return actor;
	const { fresh, why } = yield* asPlatform(
		credentialKind === 'api_key' ? byCredential(tx, view, actor, nowMs) : byPrincipal(tx, view, actor, nowMs),
	);
	if (fresh !== undefined && why === undefined) return fresh;
	throw new GpuaasError({ code: 'UNAUTHENTICATED', reason: 'UNAUTHENTICATED', message: WITHDRAWN[why ?? 'revoked'] });
}

/** Whoever sits at a terminal reads this. */
const WITHDRAWN: Readonly<Record<Unusable, string>> = {
	revoked: 'the credential was withdrawn while the request was running; ask for a new one',
	expired: 'the credential expired while the request was running; send it again with a new one',
	disabled: 'the account was disabled while the request was running; ask whoever looks after accounts',
	suspended: 'the project or organization of the account was suspended while the request was running; ask its owners',
	break_glass: 'break-glass ended while the request was running; begin it anew if it is still needed',
};

interface Found {
	readonly fresh: PrincipalActor | undefined;
	readonly why: Unusable | undefined;
}

function* byCredential(tx: Tx, view: PolicyView, actor: PrincipalActor, nowMs: number): Plan<Found> {
	const loaded = yield* loadCredential(tx, view, actor.credentialId, nowMs);
	return { fresh: loaded?.actor, why: loaded === undefined ? undefined : unusable(loaded, nowMs) };
}

/** Tokens and sessions: what their edge verified stays, who it is is looked up again. */
function* byPrincipal(tx: Tx, view: PolicyView, actor: PrincipalActor, nowMs: number): Plan<Found> {
	if (yield* wasEnded(tx, actor, nowMs)) return { fresh: undefined, why: 'revoked' };
	const principal = yield* tx.identities.getPrincipal(actor.id);
	if (principal === undefined) return { fresh: undefined, why: undefined };
	const { credentialKind: kind, credentialId: id, credentialExpiresAtMs: expiresAtMs, limits, assurance } = actor;
	const verified = { kind, id, expiresAtMs, limits, ...(assurance === undefined ? {} : { assurance }) };
	const fresh = yield* loadActor(tx, view, principal, verified, nowMs);
	return { fresh, why: yield* unusablePrincipal(tx, view, principal) };
}

/** Logged out meanwhile: ending a login raises the epoch, so whoever reads on is asked here. */
function* wasEnded(tx: Tx, { login, credentialKind, credentialId }: PrincipalActor, nowMs: number): Plan<boolean> {
	if (credentialKind === 'break_glass') return (yield* tx.breakGlass.getGrant(credentialId))?.endedAtMs !== null;
	if (credentialKind === 'browser_session') {
		const session = yield* tx.browserSessions.get(credentialId);
		return session?.endedAtMs !== null || nowMs >= session.expiresAtMs;
	}
	if (login === undefined) return false;
	const revokedAtMs = yield* tx.logins.revokedAt(login.issuer, login.subject, login.sessionId);
	return revokedAtMs !== undefined && login.issuedAtMs <= revokedAtMs;
}

const EXPIRED_REASON: Readonly<Record<CredentialKind, string>> = {
	none: 'UNAUTHENTICATED',
	api_key: 'UNAUTHENTICATED',
	access_token: 'ACCESS_TOKEN_EXPIRED',
	browser_session: 'SESSION_ENDED',
	break_glass: 'BREAK_GLASS_INVALID',
};

function expired(kind: CredentialKind): GpuaasError {
	return new GpuaasError({
		code: 'UNAUTHENTICATED',
		reason: EXPIRED_REASON[kind],
		message: 'the credential expired while the request was running; send it again with a new one',
	});
}
