import { GpuaasError } from '../../../kit/error.ts';
import type { CredentialLimits } from '../../context.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { isCovered } from '../iam/cidr.ts';
import { type Granter, mayAt } from '../iam/grants.ts';

/** What a new key may do: as was asked, and where nothing was asked, what the credential in use may. */
export function* reachOfNew(tx: Tx, granter: Granter, asked: CredentialLimits): Plan<CredentialLimits> {
	const { limits } = granter.actor;
	const reach = {
		permissions: asked.permissions.length === 0 ? limits.permissions : [...asked.permissions],
		scope: asked.scope === '' ? limits.scope : asked.scope,
		cidrs: asked.cidrs.length === 0 ? limits.cidrs : [...asked.cidrs],
	};
	yield* assertWithinOwn(tx, granter, reach);
	return reach;
}

/**
 * A key is limited to a scope that is there and that whoever makes it can see: one that was mistyped would reach nothing,
 * and say so only once it is used. `organization`: the one that the key's account belongs to.
 */
export function* assertKeyScope(
	tx: Tx,
	granter: Granter,
	scope: string,
	{ nowMs, organization }: { readonly nowMs: number; readonly organization: string | null },
): Plan<void> {
	if (scope === '') return;
	// By the caller's own eyes first: what is another organization's is not there.
	const isThere = (yield* tx.scopes.getMany([scope])).length > 0;
	const place = isThere ? yield* granter.view.place(tx, scope) : undefined;
	const isOurs = place !== undefined && (organization === null || place.organization === organization);
	if (isOurs && place.state !== 'deleted' && mayAt(granter, 'scopes.get', place, nowMs)) return;
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'KEY_SCOPE_UNKNOWN',
		message:
			'there is no such scope that the key could be limited to, or you may not see it; nothing was made. Write it in full, such as organizations/acme/projects/train (gpuaas project list)',
	});
}

/** A key never makes or renews a key that reaches further than itself. Empty lists have no limit. */
export function* assertWithinOwn(
	tx: Tx,
	{ view, actor: { limits, limit } }: Granter,
	{ permissions, scope, cidrs }: CredentialLimits,
): Plan<void> {
	const isHeld = isPart(permissions, limits.permissions, (name) => limits.permissions.includes(name));
	const isNear = isPart(cidrs, limits.cidrs, (cidr) => isCovered(limits.cidrs, cidr));
	const place = scope === '' ? undefined : yield* view.place(tx, scope);
	const isBelow = limit.path === undefined || place?.ancestors.includes(limit.path) === true;
	if (isHeld && isNear && isBelow) return;
	throw new GpuaasError({
		code: 'PERMISSION_DENIED',
		reason: 'GRANT_EXCEEDS_OWN',
		message:
			'the key that you use reaches less far than the other (permissions, scope or networks); nothing was done. Use a key that holds as much, or log in',
	});
}

function isPart(part: readonly string[], of: readonly string[], isWithin: (item: string) => boolean): boolean {
	return of.length === 0 || (part.length > 0 && part.every(isWithin));
}
