import type { BindingRow, RoleRow } from '../../store/port/access.ts';
import { intersection, isNone, NO_PERMISSIONS, type PermissionSet, permissionSet, union } from './permissions.ts';
import { ROLES } from './roles.ts';

/**
 * What one principal holds, compiled from all of its bindings: a set of permissions for the platform, and one for each
 * scope that it has a tenant role at. A decision looks up the few scopes above its object, so its cost does not grow
 * with the number of bindings. As of one policy epoch, until the first of its bindings expires.
 */
export interface Access {
	readonly platform: PermissionSet;
	/** Whether it works for the platform: its calls then see all rows of the database (tenancy.ts). */
	readonly isOfPlatform: boolean;
	/** By the path of the scope. */
	readonly at: ReadonlyMap<string, PermissionSet>;
	/** Ids of the organizations that the principal is a member of or holds a role in: what row security lets it reach. */
	readonly organizations: readonly string[];
	/** On the wall clock: from then on it must be compiled again. */
	readonly validUntilMs: number;
}

/** A binding with the place of its scope, and its role where that is no built-in one. */
export interface PlacedBinding extends Pick<BindingRow, 'role' | 'permissions' | 'expiresAtMs'> {
	/** Of the scope; undefined when there is none, or it was deleted: the binding gives nothing. */
	readonly path: string | undefined;
}

export const NO_ACCESS: Access = Object.freeze({
	platform: NO_PERMISSIONS,
	isOfPlatform: false,
	at: new Map(),
	organizations: Object.freeze([]),
	validUntilMs: Number.POSITIVE_INFINITY,
});

export function compileAccess(
	bindings: readonly PlacedBinding[],
	custom: ReadonlyMap<string, RoleRow>,
	nowMs: number,
	memberOf: readonly string[] = [],
): Access {
	let platform = NO_PERMISSIONS;
	let validUntilMs = Number.POSITIVE_INFINITY;
	const at = new Map<string, PermissionSet>();
	for (const binding of bindings) {
		if (binding.expiresAtMs !== null && binding.expiresAtMs <= nowMs) continue;
		if (binding.expiresAtMs !== null) validUntilMs = Math.min(validUntilMs, binding.expiresAtMs);
		const role = roleOf(binding.role, custom);
		if (role === undefined || binding.path === undefined) continue;
		const given =
			binding.permissions.length === 0 ? role.set : intersection(role.set, permissionSet(binding.permissions));
		// The planes never mix: a tenant role at the platform gives nothing, nor does a platform role below it.
		if ((role.plane === 'platform') !== (binding.path === '/')) continue;
		if (role.plane === 'platform') platform = union(platform, given);
		else at.set(binding.path, union(at.get(binding.path) ?? NO_PERMISSIONS, given));
	}
	const organizations = new Set([...memberOf, ...[...at.keys()].map((path) => path.split('/')[1] ?? '')]);
	return Object.freeze({
		platform,
		isOfPlatform: !isNone(platform),
		at,
		organizations: Object.freeze([...organizations].toSorted()),
		validUntilMs,
	});
}

/** A built-in platform role held without a row: the simulation's and the benchmark's operator. */
export function platformAccess(role: string): Access {
	return compileAccess([{ role, path: '/', permissions: [], expiresAtMs: null }], new Map(), 0);
}

function roleOf(
	name: string,
	custom: ReadonlyMap<string, RoleRow>,
): { readonly plane: 'platform' | 'tenant'; readonly set: PermissionSet } | undefined {
	const builtIn = ROLES[name];
	if (builtIn !== undefined) return builtIn;
	const row = custom.get(name);
	if (row === undefined || row.deletedAtMs !== null) return undefined;
	return { plane: 'tenant', set: permissionSet(row.permissions) };
}
