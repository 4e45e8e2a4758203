import { GpuaasError } from '../../../kit/error.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { assertHolds, type Granter, roleSet } from '../iam/grants.ts';
import { ownersOf } from '../iam/owners.ts';
import { holds, intersection, isPermission, lacking, permissionBit, permissionSet } from '../iam/permissions.ts';
import type { Place } from '../iam/place.ts';
import { ROLES } from '../iam/roles.ts';

export interface Grant {
	readonly scope: ScopeRow;
	readonly place: Place;
	readonly role: string;
	/** Of the role's permissions only these; empty: all. */
	readonly permissions: readonly string[];
}

/**
 * Whether this role can be given at this scope by this actor: the role exists there, stands in the scope's plane, and
 * holds nothing that the actor lacks. One exception: the platform gives an organization its first owner. Throws
 * ROLE_UNKNOWN, PERMISSION_UNKNOWN, GRANT_EXCEEDS_OWN.
 */
export function* assertGrantable(tx: Tx, { actor }: Granter, { scope, place, role, permissions }: Grant): Plan<void> {
	yield* assertRoleAt(tx, role, scope);
	const { plane, set } = yield* roleSet(tx, role);
	const isNarrower = permissions.every(isPermission) && lacking(set, permissionSet(permissions)).length === 0;
	if (!isNarrower) throw notInRole(permissions);
	if (role === 'tenant.owner' && scope.kind === 'organization' && permissions.length === 0) {
		const mayFound = holds(actor.access.platform, permissionBit('scopes.create'));
		if (mayFound && (yield* ownersOf(tx, scope.name, role)).length === 0) return;
	}
	assertHolds(actor, plane, place, permissions.length === 0 ? set : intersection(set, permissionSet(permissions)));
}

export function* assertRoleAt(tx: Tx, role: string, scope: ScopeRow): Plan<void> {
	const builtIn = ROLES[role];
	if (builtIn !== undefined) {
		if ((builtIn.plane === 'platform') === (scope.kind === 'platform')) return;
	} else if (role.startsWith(`organizations/${scope.organization}/roles/`) && scope.kind !== 'platform') {
		const [row] = yield* tx.access.getRoles([role]);
		if (row !== undefined && row.deletedAtMs === null) return;
	}
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'ROLE_UNKNOWN',
		message:
			'there is no such role that can be bound here: platform roles stand at the platform, tenant roles below it, and custom ones in their own organization; list the roles',
	});
}

function notInRole(permissions: readonly string[]): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'PERMISSION_UNKNOWN',
		message: `the role doesn't hold all of ${permissions.slice(0, 5).join(', ')}; a binding can only narrow its role`,
	});
}
