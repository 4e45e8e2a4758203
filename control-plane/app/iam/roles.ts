/**
 * What each role may do. Roles are versioned permission sets in two planes that never mix: a platform role counts only
 * in a binding at `platform`, a tenant role only in one at a project. Permissions are those of the method policies in
 * the contract; a test checks that every one of them is held by some role and that no role holds one that isn't there.
 */
export type Plane = 'platform' | 'tenant';

export interface Role {
	readonly plane: Plane;
	readonly permissions: ReadonlySet<string>;
}

const PLATFORM_VIEWER = [
	'nodes.get',
	'nodes.explain',
	'tasks.get',
	'operations.get',
	'certificates.list',
	'tokens.list',
	'system.health',
] as const;

const TENANT_VIEWER = ['nodes.get', 'tasks.get', 'tasks.output'] as const;

export const ROLES: Readonly<Record<string, Role>> = Object.freeze({
	'platform.operator': role('platform', [
		...PLATFORM_VIEWER,
		'nodes.label',
		'nodes.cordon',
		'nodes.drain',
		'nodes.assign',
		'nodes.unlock',
		'nodes.remove',
		'tasks.create',
		'tasks.cancel',
		'tasks.output',
		'operations.cancel',
		'tokens.create',
		'tokens.revoke',
		'certificates.revoke',
		'ca.rotate',
		'audit.list',
		'audit.export',
	]),
	// Sees what exists, never what programs printed: output may hold a tenant's data.
	'platform.viewer': role('platform', PLATFORM_VIEWER),
	'platform.auditor': role('platform', [...PLATFORM_VIEWER, 'audit.list', 'audit.export']),
	'tenant.developer': role('tenant', [...TENANT_VIEWER, 'tasks.create', 'tasks.cancel']),
	'tenant.viewer': role('tenant', TENANT_VIEWER),
});

function role(plane: Plane, permissions: readonly string[]): Role {
	return Object.freeze({ plane, permissions: new Set(permissions) });
}
