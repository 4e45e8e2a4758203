import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import {
	AccessService,
	CreateRoleResponseSchema,
	DeleteRoleResponseSchema,
	GetRoleResponseSchema,
	ListRolesRequestSchema,
	ListRolesResponseSchema,
	UpdateRoleResponseSchema,
} from '../../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import type { RoleRow } from '../../store/port/access.ts';
import type { ScopeRow } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { Gate } from '../gates.ts';
import { changed } from '../iam/change.ts';
import { checkedDisplayName } from '../iam/display-name.ts';
import { assertEtag } from '../iam/etag.ts';
import { assertHolds, granterOf } from '../iam/grants.ts';
import type { CheckedPolicy } from '../iam/method-policy.ts';
import { notFound } from '../iam/not-found.ts';
import { permissionSet } from '../iam/permissions.ts';
import { ROLES } from '../iam/roles.ts';
import { assertRoomFor } from '../iam/room.ts';
import type { TargetOf } from '../iam/target.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { assertHome } from '../principals/named.ts';
import { mutation, query } from '../use-case.ts';
import { builtInMessages, roleMessage } from './role-view.ts';

const VERSIONS_SHOWN_MAX = 100;
/** All that a tenant's role can hold. */
const TENANT_PERMISSIONS: ReadonlySet<string> = new Set(
	Object.values(ROLES).flatMap(({ plane, permissions }) => (plane === 'tenant' ? [...permissions] : [])),
);

export const listRoles = query('scope', AccessService.method.listRoles, {
	*read(tx, call, target) {
		const page = pageOf(call, ListRolesRequestSchema);
		const scope = assertHome(call.policy, target);
		return { rows: yield* tx.access.listRoles({ ...page, organization: scope.organization }), page, scope };
	},
	answer: (_call, { rows, page, scope }) =>
		create(ListRolesResponseSchema, {
			roles: [...(page.afterId === '' ? builtInMessages(scope.kind) : []), ...rows.map(roleMessage)],
			nextPageToken: nextPageToken(page, rows.at(-1)?.name, rows.length),
		}),
});

export const getRole = query('scope', AccessService.method.getRole, {
	*read(tx, { policy }, target) {
		const row = yield* roleAt(tx, policy, target);
		return { row, versions: yield* tx.access.listRoleVersions(row.name, VERSIONS_SHOWN_MAX) };
	},
	answer: (_call, { row, versions }) =>
		create(GetRoleResponseSchema, {
			role: roleMessage(row),
			versions: versions.map(({ version, permissions, atMs }) => ({
				version: BigInt(version),
				permissions: [...permissions],
				at: timestampFromMs(atMs),
			})),
		}),
});

/** Throws SCOPE_KIND_INVALID. */
const OF_ORGANIZATION: Gate<'scope'> = {
	gate: 'kind',
	check(_tx, { target, policy }) {
		assertOrganization(policy, target);
		return 'roles belong to an organization';
	},
};

/** Throws TOO_MANY_ROLES. */
const ROOM: Gate<'scope'> = {
	gate: 'room',
	*check(tx, { target, policy }) {
		const { organization } = assertOrganization(policy, target);
		return assertRoomFor('role', yield* tx.access.countRoles(organization));
	},
};

/** A custom role of an organization. Whoever makes or changes one must hold what it holds, at the organization. */
export const createRole = mutation('scope', AccessService.method.createRole, {
	gates: [OF_ORGANIZATION, ROOM],
	prepare: ({ request }) => checkedDisplayName(request.displayName),
	*apply(tx, call, target, { displayName }) {
		const { request, nowMs, ctx, policy } = call;
		const scope = assertOrganization(policy, target);
		assertTenantPermissions(request.permissions);
		assertHolds((yield* granterOf(tx, call)).actor, 'tenant', target.place, permissionSet(request.permissions));
		const name = `${scope.name}/roles/${request.id}`;
		if ((yield* tx.access.getRole(name)) !== undefined) throw taken();
		const row: RoleRow = {
			name,
			organization: scope.organization,
			displayName,
			permissions: [...new Set(request.permissions)].toSorted(),
			createdAtMs: nowMs,
			createdBy: ctx.actor.id,
			deletedAtMs: null,
			version: 1,
		};
		yield* tx.access.insertRole(row);
		return changed(
			create(CreateRoleResponseSchema, { role: roleMessage(row) }),
			'roles.create',
			name,
			scope.organization,
		);
	},
});

export const updateRole = mutation('scope', AccessService.method.updateRole, {
	prepare: () => undefined,
	*apply(tx, call, target) {
		const { request, nowMs, ctx, policy } = call;
		const role = yield* roleAt(tx, policy, target);
		assertEtag(request.etag, role, 'role');
		assertTenantPermissions(request.permissions);
		assertHolds((yield* granterOf(tx, call)).actor, 'tenant', target.place, permissionSet(request.permissions));
		const patch = { permissions: [...new Set(request.permissions)].toSorted() };
		const by = { atMs: nowMs, changedBy: ctx.actor.id };
		const row = present(yield* tx.access.updateRole(role.name, patch, by, role.version), 'the row is locked');
		const response = create(UpdateRoleResponseSchema, { role: roleMessage(row) });
		return changed(response, 'roles.update', row.name, row.organization, { version: row.version });
	},
});

/** Throws ROLE_IN_USE. */
const UNBOUND: Gate<'scope'> = {
	gate: 'use',
	*check(tx, { target, policy }) {
		const { name } = yield* roleAt(tx, policy, target);
		if ((yield* tx.access.listBindingsOfRole(name, null, 1)).length > 0) throw bound();
		return 'nobody has the role';
	},
};

export const deleteRole = mutation('scope', AccessService.method.deleteRole, {
	prepare: () => undefined,
	gates: [UNBOUND],
	*apply(tx, { request, nowMs, ctx, policy }, target) {
		const role = yield* roleAt(tx, policy, target);
		assertEtag(request.etag, role, 'role');
		yield* tx.access.updateRole(
			role.name,
			{ deletedAtMs: nowMs },
			{ atMs: nowMs, changedBy: ctx.actor.id },
			role.version,
		);
		return changed(create(DeleteRoleResponseSchema), 'roles.delete', role.name, role.organization);
	},
});

function* roleAt(tx: Tx, policy: CheckedPolicy, { scope, collection, id }: TargetOf['scope']): Plan<RoleRow> {
	const row = collection === 'roles' ? yield* tx.access.getRole(`${scope.name}/roles/${id}`) : undefined;
	if (row === undefined || row.deletedAtMs !== null) throw notFound(policy);
	return row;
}

function assertOrganization(policy: CheckedPolicy, target: TargetOf['scope']): ScopeRow {
	const scope = assertHome(policy, target);
	if (scope.kind === 'organization') return scope;
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'SCOPE_KIND_INVALID',
		message: 'custom roles belong to an organization; make it there, and bind it wherever it is needed',
	});
}

function assertTenantPermissions(permissions: readonly string[]): void {
	const unknown = permissions.filter((name) => !TENANT_PERMISSIONS.has(name));
	if (unknown.length === 0) return;
	throw new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'PERMISSION_UNKNOWN',
		message: `no tenant's role can hold ${unknown.slice(0, 5).join(', ')}; list the roles for the permissions that there are`,
	});
}

function taken(): GpuaasError {
	return new GpuaasError({
		code: 'ALREADY_EXISTS',
		reason: 'PRINCIPAL_NAME_TAKEN',
		message: 'the organization has or had a role of that id; choose another',
	});
}

function bound(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'ROLE_IN_USE',
		message:
			'the role is still bound, and nothing was changed; delete its bindings first (gpuaas binding list shows them)',
	});
}
