import type { Duration } from '@bufbuild/protobuf/wkt';
import { GpuaasError } from '../../../kit/error.ts';
import type { CredentialRow } from '../../store/port/api-keys.ts';
import { type ApiKeyKind, macOf, mintApiKey } from '../iam/api-key.ts';
import type { Call } from '../use-case.ts';
import { msFromDuration } from '../wire/time.ts';

/** 90 days; the contract allows 365 at most. */
const TTL_DEFAULT_MS = 90 * 24 * 3_600_000;

export interface MintedSecret {
	/** Shown once, stored nowhere. */
	readonly text: string;
	row(principalId: string, keyId: string): CredentialRow;
}

/**
 * A new secret of a key, with its verifier under the newest pepper. Break-glass gets none of anybody's, for it would still
 * be there after its hour; and what a person's own key makes for that person ends with that key at the latest, else
 * whoever found it could go on for ever.
 */
export function mintSecret(
	{ deps, nowMs, ctx }: Call<unknown>,
	kind: ApiKeyKind,
	ttl: Duration | undefined,
): MintedSecret {
	const { credentialKind, credentialExpiresAtMs } = ctx.actor;
	if (credentialKind === 'break_glass') throw underBreakGlass();
	const { ring, environment } = deps.secrets;
	const { key, text } = mintApiKey(kind, environment, deps.rng);
	const mac = macOf(key, ring.current);
	const wantedMs = nowMs + (msFromDuration(ttl) ?? TTL_DEFAULT_MS);
	const isByOwnKey = kind === 'uk' && credentialKind === 'api_key' && credentialExpiresAtMs !== null;
	const expiresAtMs = isByOwnKey ? Math.min(wantedMs, credentialExpiresAtMs) : wantedMs;
	return {
		text,
		row: (principalId, keyId) => ({
			id: key.id,
			principalId,
			keyId,
			mac,
			pepperVersion: ring.currentVersion,
			createdAtMs: nowMs,
			expiresAtMs,
			revokedAtMs: null,
		}),
	};
}

function underBreakGlass(): GpuaasError {
	return new GpuaasError({
		code: 'PERMISSION_DENIED',
		reason: 'BREAK_GLASS_FORBIDDEN',
		message:
			'a key would outlive the hour of the break-glass, so none is made or rotated under it; nothing was changed. Revoking works; make keys with a login once that is possible again',
	});
}
