import type { PrincipalRow } from '../../store/port/identities.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { extendQuota, releaseQuota, takeQuota, type Wish } from '../quotas/reserve.ts';
import { liveVersions } from './checks.ts';

/**
 * Keys of a tenant's service accounts count where the account lives, until the last of their secrets ends or they are
 * revoked. People's own keys and those of the platform's accounts are nobody's quota.
 */
export function* takeForKey(tx: Tx, account: PrincipalRow, keyId: string, endsAtMs: number, nowMs: number): Plan<void> {
	const wish = wishOf(account, keyId, nowMs);
	if (wish !== undefined) yield* takeQuota(tx, wish, endsAtMs);
}

/**
 * After a secret was added: until the last of them ends, which may be the old one. Throws QUOTA_EXCEEDED where the key had
 * ended and others took its room.
 */
export function* extendForKey(tx: Tx, account: PrincipalRow, keyId: string, nowMs: number): Plan<void> {
	const wish = wishOf(account, keyId, nowMs);
	if (wish === undefined) return;
	const live = liveVersions(yield* tx.apiKeys.credentialsOf([keyId]), nowMs);
	yield* extendQuota(tx, wish, Math.max(...live.map(({ expiresAtMs }) => expiresAtMs)));
}

const KEYS_A_LOOK = 500;

/** Revokes every key and secret of a principal. */
export function* revokeAllKeys(tx: Tx, principalId: string, nowMs: number, reason: string): Plan<void> {
	yield* tx.apiKeys.revokeAllOf(principalId, nowMs, reason);
	for (let afterId = ''; ; ) {
		const keys = yield* tx.apiKeys.list({ principalIds: [principalId], afterId, limit: KEYS_A_LOOK });
		yield* releaseQuota(
			tx,
			'api_keys',
			keys.map(({ id }) => id),
		);
		const last = keys.at(-1);
		if (keys.length < KEYS_A_LOOK || last === undefined) return;
		afterId = last.id;
	}
}

function wishOf({ home, organization }: PrincipalRow, keyId: string, nowMs: number): Wish | undefined {
	if (home === null || organization === null || organization === '') return undefined;
	return { kind: 'api_keys', holder: keyId, scope: home, organization, amount: 1, nowMs };
}
