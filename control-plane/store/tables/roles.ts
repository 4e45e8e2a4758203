import type { Access, RoleRow } from '../port/access.ts';
import type { Compiler } from './compiler.ts';
import { ROLE_VERSIONS, ROLES } from './iam-schema.ts';
import { raiseEpoch } from './policy-epoch.ts';

type Roles = 'insertRole' | 'getRole' | 'getRoles' | 'updateRole' | 'countRoles' | 'listRoles' | 'listRoleVersions';

/** Custom roles and every version of their permissions. */
export function rolesTable(compiler: Compiler): Pick<Access, Roles> {
	const insert = compiler.insert(ROLES);
	const insertVersion = compiler.insert(ROLE_VERSIONS);
	const raise = raiseEpoch(compiler);
	const byName = compiler.selectLocked(ROLES, 'where name = ?');
	const byNames = compiler.select(ROLES, `where ${compiler.inListText('name')}`);
	const list = compiler.select(
		ROLES,
		'where organization = ? and name > ? and deleted_at_ms is null order by name limit ?',
	);
	const count = compiler.statement(
		'select count(*) as count from roles where organization = ? and deleted_at_ms is null',
	);
	const versions = compiler.select(ROLE_VERSIONS, 'where role = ? order by version desc limit ?');
	return {
		*insertRole(row: RoleRow) {
			yield insert(row);
			const { name: role, version, permissions, createdAtMs: atMs, createdBy: changedBy } = row;
			yield insertVersion({ role, version, permissions, atMs, changedBy });
			yield* raise();
		},
		*getRole(name) {
			return ROLES.first(yield byName(name));
		},
		*getRoles(names) {
			return names.length === 0 ? [] : ROLES.all(yield byNames(names));
		},
		*updateRole(name, patch, { atMs, changedBy }, ifVersion) {
			const conditions = ifVersion === undefined ? [] : [{ sql: 'version = ?', value: ifVersion }];
			const changed = yield* compiler.patch<RoleRow>(ROLES, ['name', name], patch, conditions, 'version = version + 1');
			if (changed === undefined) return undefined;
			const { version, permissions } = changed;
			yield insertVersion({ role: name, version, permissions, atMs, changedBy });
			yield* raise();
			return changed;
		},
		*countRoles(organization) {
			return Number((yield count(organization)).rows[0]?.count);
		},
		*listRoles({ organization, afterId, limit }) {
			return ROLES.all(yield list(organization, afterId, limit));
		},
		*listRoleVersions(name, limit) {
			return ROLE_VERSIONS.all(yield versions(name, limit));
		},
	};
}
