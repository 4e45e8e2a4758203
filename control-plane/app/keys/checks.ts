import { GpuaasError } from '../../../kit/error.ts';
import type { ApiKeyRow, CredentialRow } from '../../store/port/api-keys.ts';
import { permissionSet } from '../iam/permissions.ts';
import { ROLES } from '../iam/roles.ts';

/** While one is being replaced by the next. */
const VERSIONS_LIVE_MAX = 2;
export const OVERLAP_DEFAULT_MS = 24 * 3_600_000;

const KNOWN: ReadonlySet<string> = new Set(Object.values(ROLES).flatMap(({ permissions }) => [...permissions]));

/** A misspelt permission would make a key that can do less than it says. */
export function assertKnownPermissions(permissions: readonly string[]): void {
	const unknown = permissions.filter((name) => !KNOWN.has(name));
	if (unknown.length === 0) return;
	throw new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'PERMISSION_UNKNOWN',
		message: `no role holds ${unknown.slice(0, 5).join(', ')}; list the roles for the permissions that there are`,
	});
}

/** What a key may do at most; undefined: whatever its principal may. */
export function reachOf({ permissions }: Pick<ApiKeyRow, 'permissions'>) {
	return permissions.length === 0 ? undefined : permissionSet(permissions);
}

export function liveVersions(versions: readonly CredentialRow[], nowMs: number): readonly CredentialRow[] {
	return versions.filter(({ revokedAtMs, expiresAtMs }) => revokedAtMs === null && expiresAtMs > nowMs);
}

export function assertNotRevoked(key: ApiKeyRow): void {
	if (key.revokedAtMs === null) return;
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'KEY_REVOKED',
		message: 'the key was revoked and stays so; make a new one',
	});
}

export function assertRoomForVersion(live: readonly CredentialRow[]): void {
	if (live.length < VERSIONS_LIVE_MAX) return;
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'KEY_VERSIONS_LIMIT',
		message:
			'the key has two live secrets already, and nothing was made; wait until the overlap ends, or rotate with an overlap of 0 next time',
	});
}
