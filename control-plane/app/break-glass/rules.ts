import { GpuaasError } from '../../../kit/error.ts';
import { ROLES } from '../iam/roles.ts';

/** Different keys that must sign. */
export const QUORUM = 2;
export const KEYS_MAX = 64;
/** Time to bring two keys together. */
export const CHALLENGE_TTL_MS = 600_000;
export const GRANT_TTL_MS = 3_600_000;

/** The one principal that break-glass acts as; it has no other credential. */
export const BREAK_GLASS_PRINCIPAL_ID = 'break-glass';
export const BREAK_GLASS_ROLE = 'platform.operator';

/** Money, legal holds, and the break-glass itself: what must be out of reach of whoever holds two keys for an hour. */
const OUT_OF_REACH =
	/^(ledger|billing|invoices|prices|payments|credits|holds|breakglass|retention)\.|\.(hold|release_hold)$/;

/** What may be done with it: the role's permissions without those. */
export function breakGlassPermissions(): readonly string[] {
	return [...(ROLES[BREAK_GLASS_ROLE]?.permissions ?? [])].filter((permission) => !OUT_OF_REACH.test(permission));
}

export function breakGlassInvalid(why: string): GpuaasError {
	return new GpuaasError({
		code: 'PERMISSION_DENIED',
		reason: 'BREAK_GLASS_INVALID',
		message: `break-glass was refused: ${why}; nothing was opened. Begin again, and sign that challenge with registered keys`,
	});
}
