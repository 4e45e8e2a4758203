import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';

/** Above the longest life that the configuration allows a token, so that a revocation outlives what it voids. */
const TOKEN_LIFE_MAX_MS = 2 * 3_600_000;

export interface EndedLogin {
	readonly issuer: string;
	readonly subject: string;
	/** Empty: all of the subject's. */
	readonly providerSession: string;
	readonly why: string;
	/** By the provider's clock, which may be ahead of ours: what it issued until then is void as well. */
	readonly issuedAtMs?: number;
}

/** Voids tokens and ends browser sessions of one session at the provider, or of a person; how many sessions ended. */
export function* endLogins(tx: Tx, id: string, login: EndedLogin, nowMs: number): Plan<number> {
	const { issuer, subject, providerSession, why, issuedAtMs = 0 } = login;
	yield* tx.logins.insertRevocation({
		id,
		issuer,
		subject: providerSession === '' ? subject : '',
		providerSession,
		revokedAtMs: Math.max(nowMs, issuedAtMs),
		expiresAtMs: nowMs + TOKEN_LIFE_MAX_MS,
	});
	const sessions = yield* tx.browserSessions.openOf(issuer, subject, providerSession);
	for (const { id: session } of sessions) yield* tx.browserSessions.end(session, why, nowMs);
	return sessions.length;
}
