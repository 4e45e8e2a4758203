import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Key, KeySchema } from '../../../proto/gen/gpuaas/iam/v1/keys_pb.ts';
import type { ApiKeyRow, CredentialRow, CredentialUseRow } from '../../store/port/api-keys.ts';
import type { PrincipalRow } from '../../store/port/identities.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { etagOf } from '../iam/etag.ts';

/** A key with its secrets' rows and when they were last used. */
export interface KeyFacts {
	readonly key: ApiKeyRow;
	readonly versions: readonly CredentialRow[];
	readonly uses: ReadonlyMap<string, CredentialUseRow>;
}

export function* keyFacts(tx: Tx, keys: readonly ApiKeyRow[]): Plan<readonly KeyFacts[]> {
	const credentials = yield* tx.apiKeys.credentialsOf(keys.map(({ id }) => id));
	const uses = new Map(
		(yield* tx.apiKeys.usesOf(credentials.map(({ id }) => id))).map((use) => [use.credentialId, use]),
	);
	return keys.map((key) => ({ key, versions: credentials.filter(({ keyId }) => keyId === key.id), uses }));
}

/** `organizations/acme/projects/train/keys/ID`; a person's key stands nowhere and is called by its id. */
export function keyName(key: ApiKeyRow, principal: Pick<PrincipalRow, 'home'>): string {
	return principal.home === null ? key.id : `${principal.home}/keys/${key.id}`;
}

export function keyMessage(
	{ key, versions, uses }: KeyFacts,
	principal: Pick<PrincipalRow, 'home'>,
	nowMs: number,
): Key {
	return create(KeySchema, {
		name: keyName(key, principal),
		principalId: key.principalId,
		displayName: key.displayName,
		permissions: [...key.permissions],
		scope: key.scope,
		cidrs: [...key.cidrs],
		createdAt: timestampFromMs(key.createdAtMs),
		etag: etagOf(key),
		versions: versions.map((version) => versionMessage(version, uses.get(version.id), nowMs)),
		...(key.revokedAtMs === null
			? {}
			: { revokedAt: timestampFromMs(key.revokedAtMs), revokedReason: key.revokedReason }),
	});
}

function versionMessage(row: CredentialRow, use: CredentialUseRow | undefined, nowMs: number) {
	return {
		id: row.id,
		state: row.revokedAtMs !== null ? 'revoked' : row.expiresAtMs <= nowMs ? 'expired' : 'live',
		createdAt: timestampFromMs(row.createdAtMs),
		expiresAt: timestampFromMs(row.expiresAtMs),
		...(use === undefined ? {} : { lastUsedAt: timestampFromMs(use.usedAtMs), lastUsedFrom: use.peer }),
	};
}
