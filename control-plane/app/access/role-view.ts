import { create } from '@bufbuild/protobuf';
import { type Role, RoleSchema } from '../../../proto/gen/gpuaas/iam/v1/access_pb.ts';
import type { RoleRow } from '../../store/port/access.ts';
import type { ScopeKind } from '../../store/port/scopes.ts';
import { etagOf } from '../iam/etag.ts';
import { ROLES } from '../iam/roles.ts';

export function roleMessage(row: RoleRow): Role {
	return create(RoleSchema, {
		name: row.name,
		displayName: row.displayName,
		plane: 'tenant',
		permissions: [...row.permissions],
		builtIn: false,
		version: BigInt(row.version),
		etag: etagOf(row),
	});
}

/** Those that can be bound at a scope of this kind. */
export function builtInMessages(kind: ScopeKind): readonly Role[] {
	const plane = kind === 'platform' ? 'platform' : 'tenant';
	return Object.entries(ROLES)
		.filter(([, role]) => role.plane === plane)
		.map(([name, { permissions }]) =>
			create(RoleSchema, {
				name,
				displayName: name.replace('.', ' '),
				plane,
				permissions: [...permissions].toSorted(),
				builtIn: true,
				version: 1n,
			}),
		);
}
