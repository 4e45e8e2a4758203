import { GpuaasError } from '../../../kit/error.ts';
import type { BindingRow } from '../../store/port/access.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { Call } from '../use-case.ts';
import { decide } from './decide.ts';
import { freshActor } from './fresh-actor.ts';
import {
	intersection,
	lacking,
	NO_PERMISSIONS,
	type PermissionSet,
	permissionBit,
	permissionSet,
	union,
} from './permissions.ts';
import type { Place } from './place.ts';
import type { PolicyView } from './policy-view.ts';
import type { PrincipalActor } from './principal.ts';
import { type Plane, ROLES } from './roles.ts';

/**
 * Nobody grants what they lack: whoever gives a role, joins somebody to a group, invites, or makes a key for a service
 * account must hold every permission of it, at that place, in that plane, with the credential in use. Asked inside the
 * unit, of the actor as of now.
 */
export interface Granter {
	readonly view: PolicyView;
	readonly actor: PrincipalActor;
}

/** Before the unit writes anything: afterwards it would see its own change. */
export function* granterOf(tx: Tx, { deps, ctx, nowMs }: Call<unknown>): Plan<Granter> {
	const view = yield* deps.policies.inUnit(tx);
	return { view, actor: yield* freshActor(tx, view, ctx.actor, nowMs) };
}

export function heldBy({ access, limit }: PrincipalActor, plane: Plane, place: Place): PermissionSet {
	if (limit.path !== undefined && !place.ancestors.includes(limit.path)) return NO_PERMISSIONS;
	const held =
		plane === 'platform'
			? access.platform
			: place.ancestors.reduce((set, path) => union(set, access.at.get(path) ?? NO_PERMISSIONS), NO_PERMISSIONS);
	return limit.permissions === undefined ? held : intersection(held, limit.permissions);
}

/** Throws GRANT_EXCEEDS_OWN. */
export function assertHolds(actor: PrincipalActor, plane: Plane, place: Place, wanted: PermissionSet): void {
	const missing = lacking(heldBy(actor, plane, place), wanted);
	if (missing.length === 0) return;
	const more = missing.length > 5 ? ` and ${missing.length - 5} more` : '';
	throw new GpuaasError({
		code: 'PERMISSION_DENIED',
		reason: 'GRANT_EXCEEDS_OWN',
		message: `you can't give what you don't hold yourself here: ${missing.slice(0, 5).join(', ')}${more}; nothing was changed. Ask somebody who holds it`,
		metadata: { missing: missing.slice(0, 20).join(',') },
	});
}

/** That the actor holds all that these bindings give, each at its scope: who acts through them gains nothing. */
export function* assertHoldsBindings(
	tx: Tx,
	{ view, actor }: Granter,
	bindings: readonly BindingRow[],
	within?: PermissionSet,
): Plan<void> {
	for (const binding of bindings) {
		const place = yield* view.place(tx, binding.scope);
		if (place === undefined || place.state === 'deleted') continue;
		const { plane, set } = yield* roleSet(tx, binding.role);
		const given = binding.permissions.length === 0 ? set : intersection(set, permissionSet(binding.permissions));
		assertHolds(actor, plane, place, within === undefined ? given : intersection(given, within));
	}
}

/** Empty for a role that is not there: it gives nothing. */
export function* roleSet(tx: Tx, name: string): Plan<{ readonly plane: Plane; readonly set: PermissionSet }> {
	const builtIn = ROLES[name];
	if (builtIn !== undefined) return builtIn;
	const [row] = yield* tx.access.getRoles([name]);
	const isThere = row !== undefined && row.deletedAtMs === null;
	return { plane: 'tenant', set: isThere ? permissionSet(row.permissions) : NO_PERMISSIONS };
}

/**
 * Whether the actor may do `permission` at another place than the one that the method's policy named. `reads`: what changes
 * nothing can be done at a suspended place too.
 */
export function mayAt(
	{ actor }: Granter,
	permission: string,
	place: Place,
	nowMs: number,
	{ reads = false }: { readonly reads?: boolean } = {},
): boolean {
	const bit = permissionBit(permission);
	const target = { kind: 'object', get: bit, place } as const;
	return decide(actor, { authenticated: true, permission: bit, reads, stepUp: false, target, nowMs }).allowed;
}
