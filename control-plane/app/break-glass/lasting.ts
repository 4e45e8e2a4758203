import { present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import type { PrincipalActor } from '../iam/principal.ts';

/**
 * No new access that was given under break-glass is there after its hour: what can end by itself ends with it at the latest,
 * and what can't isn't made. What restores stays, with its record: a person or account that is resumed has what it had, a
 * guardrail that was deleted and a scope that was moved are put back by hand. Whoever needs more gives a person a role for the hour, who then makes it lasting
 * with a login of their own.
 */
type Actor = Pick<PrincipalActor, 'credentialKind' | 'credentialExpiresAtMs'>;

/** End of the break-glass in use; undefined for everybody else. */
export function breakGlassEndMs({ credentialKind, credentialExpiresAtMs }: Actor): number | undefined {
	return credentialKind === 'break_glass' ? present(credentialExpiresAtMs, 'break-glass has an end') : undefined;
}

/** The wanted end, or that of the break-glass where it comes first. Null: without end. */
export function endWithin<Wanted extends number | null>(actor: Actor, wantedMs: Wanted): Wanted | number {
	const endMs = breakGlassEndMs(actor);
	return endMs === undefined ? wantedMs : Math.min(wantedMs ?? endMs, endMs);
}

/** Throws BREAK_GLASS_FORBIDDEN. */
export function assertMayLast(actor: Actor, what: string): void {
	if (breakGlassEndMs(actor) === undefined) return;
	throw new GpuaasError({
		code: 'PERMISSION_DENIED',
		reason: 'BREAK_GLASS_FORBIDDEN',
		message: `${what} would outlive the hour of the break-glass, so it is not made under it; nothing was changed. Give a person a role (gpuaas binding create): it ends with the hour, and they can do this with their own login`,
	});
}
