import type { Clock } from '../../../kit/clock.ts';
import { type Rng, uuidv7 } from '../../../kit/ids.ts';
import type { Logger } from '../../../kit/log.ts';
import { systemContext } from '../../context.ts';
import type { BrowserSessionRow } from '../../store/port/browser-sessions.ts';
import type { Store } from '../../store/port/store.ts';
import type { AppendAudit } from '../audit/event.ts';
import type { Sealer } from './seal.ts';
import type { WebProvider, WebTokens } from './web-provider.ts';

export interface CheckDeps {
	readonly store: Store;
	readonly clock: Clock;
	readonly rng: Rng;
	readonly log: Logger;
	readonly appendAudit: AppendAudit;
	readonly sealer: Sealer;
	readonly provider: Pick<WebProvider, 'refresh'>;
}

/**
 * Asks the providers about sessions that weren't asked about lately, and ends those that are over there; how many. Each
 * is claimed before: two replicas would spend one refresh token twice, which a provider takes for theft. Whoever can't be
 * asked counts as tried until the next round, so that a provider that is down keeps nobody else's from being looked at. Once
 * `signal` aborts no other is asked; the one under way goes on, for what its answer brings is the only token that is left.
 */
export async function checkSessions(
	deps: CheckDeps,
	olderThanMs: number,
	limit: number,
	signal?: AbortSignal,
): Promise<number> {
	const { store, clock, sealer, provider, log } = deps;
	const beforeMs = clock.now() - olderThanMs;
	const sessions = await store.read((tx) => tx.browserSessions.listUnchecked(beforeMs, limit));
	const silent = new Set<string>();
	let ended = 0;
	for (const session of sessions) {
		if (signal?.aborted === true) break;
		const { id, issuer, checkedAtMs, sealedRefresh } = session;
		const isOurs = await store.unit((tx) => tx.browserSessions.claimCheck(id, checkedAtMs, clock.now()));
		if (!isOurs || silent.has(issuer) || sealedRefresh === null) continue;
		const refreshToken = sealer.open(`session ${id}`, sealedRefresh);
		if (refreshToken === undefined) {
			log.warn('a session can’t be checked: its token was sealed by another key', { session: id });
			continue;
		}
		let fresh: WebTokens | undefined;
		try {
			fresh = await provider.refresh(issuer, refreshToken);
		} catch (error) {
			silent.add(issuer);
			log.warn('a provider could not be asked about its sessions', { issuer, session: id, error });
			continue;
		}
		if (fresh === undefined) ended += await endSession(deps, session);
		else await keepSession(deps, id, fresh.refreshToken === '' ? refreshToken : fresh.refreshToken);
	}
	return ended;
}

async function keepSession({ store, clock, sealer }: CheckDeps, id: string, refreshToken: string): Promise<void> {
	const sealed = sealer.seal(`session ${id}`, refreshToken);
	await store.unit((tx) => tx.browserSessions.checked(id, sealed, clock.now()));
}

async function endSession(deps: CheckDeps, { id, issuer, principalId }: BrowserSessionRow): Promise<number> {
	const { store, clock, rng, log, appendAudit } = deps;
	const nowMs = clock.now();
	const why = 'over at the provider';
	const ctx = systemContext('login', clock, log, uuidv7(nowMs, rng));
	return await store.unit(function* (tx) {
		yield* tx.access.lockPolicy();
		if ((yield* tx.browserSessions.end(id, why, nowMs)) === undefined) return 0;
		yield* appendAudit(tx, ctx, {
			action: 'logins.end',
			target: `logins/${id}`,
			result: 'ok',
			reason: '',
			detail: { principal: principalId, issuer, why, browser_sessions: 1 },
		});
		return 1;
	});
}
