import { type PermissionSet, permissionBit, permissionSet } from './permissions.ts';

/**
 * What each role may do. Roles are versioned permission sets in two planes that never mix: a platform role counts only
 * in a binding at `platform`, a tenant role only in one below it. Permissions are those of the method policies in
 * the contract; a test checks that every one of them is held by some role and that no role holds one that isn't there.
 */
export type Plane = 'platform' | 'tenant';

export interface Role {
	readonly plane: Plane;
	readonly permissions: ReadonlySet<string>;
	/** The same, compiled. */
	readonly set: PermissionSet;
}

const PLATFORM_VIEWER = [
	'nodes.get',
	'nodes.explain',
	'tasks.get',
	'terminals.get',
	'recordings.get',
	'operations.get',
	'certificates.list',
	'tokens.list',
	'system.health',
	'telemetry.get',
	'telemetry.history',
	'health.get',
	'health.records',
	'nodes.inventory',
	'scopes.get',
	'roles.get',
	'access.explain',
	'quotas.get',
	'entitlements.get',
	'features.get',
] as const;

/** Who belongs where and who may do what, to look at. */
const IAM_VIEWER = [
	'members.get',
	'groups.get',
	'serviceaccounts.get',
	'invitations.get',
	'bindings.get',
	'guardrails.get',
	'keys.get',
] as const;

const IAM_ADMIN = [
	...IAM_VIEWER,
	'scopes.create',
	'scopes.update',
	'scopes.move',
	'scopes.suspend',
	'scopes.resume',
	'members.remove',
	'groups.manage',
	'serviceaccounts.manage',
	'invitations.manage',
	'bindings.create',
	'bindings.delete',
	'guardrails.manage',
	'keys.create',
	'keys.revoke',
	'quotas.set',
] as const;

const TERMINAL_USER = [
	'terminals.open',
	'terminals.attach',
	'terminals.observe',
	'terminals.share',
	'terminals.kill',
	'files.read',
	'files.write',
	'ports.forward',
] as const;

const TENANT_VIEWER = [
	'nodes.get',
	'tasks.get',
	'tasks.output',
	'terminals.get',
	'terminals.observe',
	'recordings.get',
	'telemetry.get',
	'telemetry.history',
	'health.get',
	'scopes.get',
	'roles.get',
	'access.explain',
	'quotas.get',
	'entitlements.get',
] as const;
const TENANT_DEVELOPER = [
	...TENANT_VIEWER,
	'tasks.create',
	'tasks.cancel',
	...TERMINAL_USER,
	'recordings.read',
	'telemetry.fast',
] as const;
const APPROVALS = ['approvals.create', 'approvals.list', 'approvals.decide'] as const;
const TENANT_ADMIN = [...TENANT_DEVELOPER, ...IAM_ADMIN, 'roles.manage', 'audit.list', ...APPROVALS] as const;

export const ROLES: Readonly<Record<string, Role>> = Object.freeze({
	'platform.operator': role('platform', [
		...PLATFORM_VIEWER,
		'telemetry.fast',
		...IAM_ADMIN,
		'scopes.delete',
		'entitlements.grant',
		'features.set',
		'users.get',
		'users.suspend',
		'nodes.label',
		'nodes.cordon',
		'nodes.drain',
		'nodes.assign',
		'nodes.unlock',
		'nodes.remove',
		'health.override',
		'health.evidence',
		'health.inject',
		'tasks.create',
		'tasks.cancel',
		'tasks.output',
		...TERMINAL_USER,
		'recordings.read',
		'recordings.hold',
		'operations.cancel',
		'tokens.create',
		'tokens.revoke',
		'certificates.revoke',
		'ca.rotate',
		'audit.list',
		'audit.export',
		...APPROVALS,
		'breakglass.register',
		'logindomains.create',
		'logindomains.list',
		'logindomains.delete',
		'breakglass.list',
	]),
	// Sees what exists, never what programs printed: output may hold a tenant's data.
	'platform.viewer': role('platform', PLATFORM_VIEWER),
	'platform.auditor': role('platform', [
		...PLATFORM_VIEWER,
		'recordings.read',
		'recordings.hold',
		'audit.list',
		'audit.export',
	]),
	// Stops what must be stopped: people, keys, certificates, whole organizations.
	'platform.security': role('platform', [
		...PLATFORM_VIEWER,
		...IAM_VIEWER,
		'scopes.suspend',
		'scopes.resume',
		'users.get',
		'users.suspend',
		'bindings.delete',
		'guardrails.manage',
		'keys.revoke',
		'certificates.revoke',
		'terminals.kill',
		'audit.list',
		'audit.export',
	]),
	'platform.finance': role('platform', [
		'scopes.get',
		'roles.get',
		'access.explain',
		'quotas.get',
		'quotas.set',
		'entitlements.get',
		'entitlements.grant',
	]),
	// Sees no tenant's own things until a tenant's administrator consents: tenant.support, bound for hours.
	'platform.support': role('platform', PLATFORM_VIEWER),
	'tenant.owner': role('tenant', [...TENANT_ADMIN, 'scopes.delete']),
	'tenant.admin': role('tenant', TENANT_ADMIN),
	'tenant.billing': role('tenant', [
		'scopes.get',
		'roles.get',
		'members.get',
		'access.explain',
		'quotas.get',
		'entitlements.get',
	]),
	'tenant.developer': role('tenant', TENANT_DEVELOPER),
	'tenant.viewer': role('tenant', TENANT_VIEWER),
	// Given by consent only, with the permissions listed one by one (access/support-consent.ts).
	'tenant.support': role('tenant', TENANT_DEVELOPER),
});

function role(plane: Plane, permissions: readonly string[]): Role {
	for (const name of permissions) permissionBit(name);
	return Object.freeze({ plane, permissions: new Set(permissions), set: permissionSet(permissions) });
}
