import type { Duration } from '@bufbuild/protobuf/wkt';
import type { ApiKeyRow } from '../../store/port/api-keys.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { assertEtag } from '../iam/etag.ts';
import { releaseQuota } from '../quotas/reserve.ts';
import { msFromDuration } from '../wire/time.ts';
import { assertNotRevoked, assertRoomForVersion, liveVersions, OVERLAP_DEFAULT_MS } from './checks.ts';
import type { MintedSecret } from './secret.ts';

/** Adds the secret; those before it end with the overlap, never later than they would have. */
export function* addVersion(
	tx: Tx,
	key: ApiKeyRow,
	minted: MintedSecret,
	asked: { readonly etag: string; readonly overlap: Duration | undefined; readonly nowMs: number },
): Plan<void> {
	assertEtag(asked.etag, key, 'key');
	assertNotRevoked(key);
	const overlapMs = msFromDuration(asked.overlap) ?? OVERLAP_DEFAULT_MS;
	const live = liveVersions(yield* tx.apiKeys.credentialsOf([key.id]), asked.nowMs);
	if (overlapMs > 0) assertRoomForVersion(live);
	for (const { id, expiresAtMs } of live) {
		if (overlapMs === 0) yield* tx.apiKeys.revokeCredential(id, asked.nowMs);
		else if (expiresAtMs > asked.nowMs + overlapMs) yield* tx.apiKeys.setExpiry(id, asked.nowMs + overlapMs);
	}
	yield* tx.apiKeys.insertCredential(minted.row(key.principalId, key.id));
	yield* tx.apiKeys.update(key.id, {}, key.version);
}

/** The key and all its secrets. Twice is as good as once. */
export function* revoke(tx: Tx, key: ApiKeyRow, nowMs: number, reason: string): Plan<void> {
	for (const { id } of yield* tx.apiKeys.credentialsOf([key.id])) yield* tx.apiKeys.revokeCredential(id, nowMs);
	if (key.revokedAtMs === null)
		yield* tx.apiKeys.update(key.id, { revokedAtMs: nowMs, revokedReason: reason }, key.version);
	yield* releaseQuota(tx, 'api_keys', [key.id]);
}
