import type {
	GroupMemberRow,
	Identities,
	MemberRow,
	PrincipalPatch,
	PrincipalRow,
	UserIdentityRow,
} from '../port/identities.ts';
import type { Compiler } from './compiler.ts';
import { GROUP_MEMBERS, MEMBERS, PRINCIPALS, USER_IDENTITIES } from './iam-schema.ts';
import { raiseEpoch } from './policy-epoch.ts';

/** Every change of who is who raises the policy epoch in the same unit. */
export function identitiesTable(compiler: Compiler): Identities {
	return { ...principals(compiler), ...logins(compiler), ...members(compiler), ...groupMembers(compiler) };
}

type Principals =
	| 'insertPrincipal'
	| 'getPrincipal'
	| 'getPrincipals'
	| 'getByName'
	| 'countNamed'
	| 'updatePrincipal'
	| 'listPrincipals'
	| 'listHomed';

function principals(compiler: Compiler): Pick<Identities, Principals> {
	const insert = compiler.insert(PRINCIPALS);
	const raise = raiseEpoch(compiler);
	const byId = compiler.select(PRINCIPALS, 'where id = ?');
	const byIds = compiler.select(PRINCIPALS, `where ${compiler.inListText('id')}`);
	const byName = compiler.select(
		PRINCIPALS,
		`where organization = ? and kind = ? and name = ? and name <> '' and deleted_at_ms is null`,
	);
	const count = compiler.statement(
		`select count(*) as count from principals where organization = ? and kind = ? and name <> '' and deleted_at_ms is null`,
	);
	const list = compiler.select(PRINCIPALS, 'where kind = ? and id > ? and deleted_at_ms is null order by id limit ?');
	const listOf = compiler.select(
		PRINCIPALS,
		'where kind = ? and id > ? and deleted_at_ms is null and home = ? order by id limit ?',
	);
	const homed = compiler.select(
		PRINCIPALS,
		`where ${compiler.inListText('home')} and deleted_at_ms is null order by id limit ?`,
	);
	return {
		*insertPrincipal(row: PrincipalRow) {
			yield insert(row);
			yield* raise();
		},
		*getPrincipal(id) {
			return PRINCIPALS.first(yield byId(id));
		},
		*getPrincipals(ids) {
			return ids.length === 0 ? [] : PRINCIPALS.all(yield byIds(ids));
		},
		*getByName(organization, kind, name) {
			return PRINCIPALS.first(yield byName(organization, kind, name));
		},
		*countNamed(organization, kind) {
			return Number((yield count(organization, kind)).rows[0]?.count);
		},
		*updatePrincipal(id: string, patch: PrincipalPatch, ifVersion?: number) {
			const conditions = ifVersion === undefined ? [] : [{ sql: 'version = ?', value: ifVersion }];
			const changed = yield* compiler.patch<PrincipalRow>(
				PRINCIPALS,
				['id', id],
				patch,
				conditions,
				'version = version + 1',
			);
			if (changed !== undefined) yield* raise();
			return changed;
		},
		*listPrincipals({ kind, home, afterId, limit }) {
			const statement = home === null ? list(kind, afterId, limit) : listOf(kind, afterId, home, limit);
			return PRINCIPALS.all(yield statement);
		},
		*listHomed(homes, limit) {
			return homes.length === 0 ? [] : PRINCIPALS.all(yield homed(homes, limit));
		},
	};
}

type Logins = 'insertUserIdentity' | 'getUserIdentity' | 'listUserIdentities' | 'listActiveIdentities' | 'recordLogin';

function logins(compiler: Compiler): Pick<Identities, Logins> {
	const insert = compiler.insert(USER_IDENTITIES);
	const raise = raiseEpoch(compiler);
	const bySubject = compiler.select(USER_IDENTITIES, 'where issuer = ? and subject = ?');
	const ofPrincipals = compiler.select(
		USER_IDENTITIES,
		`where ${compiler.inListText('principal_id')} order by principal_id, issuer, subject`,
	);
	const active = compiler.select(
		USER_IDENTITIES,
		`join principals on principals.id = user_identities.principal_id
		where user_identities.issuer = ? and user_identities.subject > ? and principals.disabled_at_ms is null
		and principals.deleted_at_ms is null order by user_identities.subject limit ?`,
	);
	const seen = compiler.statement(
		`update user_identities set email = ?, email_verified = ?, last_login_at_ms = ?, last_acr = ?, last_amr = ?,
		last_auth_time_ms = ? where issuer = ? and subject = ?`,
	);
	return {
		*insertUserIdentity(row: UserIdentityRow) {
			yield insert(row);
			yield* raise();
		},
		*getUserIdentity(issuer, subject) {
			return USER_IDENTITIES.first(yield bySubject(issuer, subject));
		},
		*listUserIdentities(principalIds) {
			return principalIds.length === 0 ? [] : USER_IDENTITIES.all(yield ofPrincipals(principalIds));
		},
		*listActiveIdentities(issuer, afterSubject, limit) {
			return USER_IDENTITIES.all(yield active(issuer, afterSubject, limit));
		},
		*recordLogin(issuer, subject, { email, emailVerified, lastLoginAtMs, lastAcr, lastAmr, lastAuthTimeMs }) {
			yield seen(email, emailVerified, lastLoginAtMs, lastAcr, lastAmr, lastAuthTimeMs, issuer, subject);
		},
	};
}

type Members = 'deleteMembersOf' | 'insertMember' | 'getMember' | 'deleteMember' | 'listMembers' | 'listMemberships';

function members(compiler: Compiler): Pick<Identities, Members> {
	const insert = compiler.insert(MEMBERS);
	const raise = raiseEpoch(compiler);
	const one = compiler.selectLocked(MEMBERS, 'where organization = ? and principal_id = ?');
	const remove = compiler.statement('delete from members where organization = ? and principal_id = ?');
	const removeAll = compiler.statement('delete from members where organization = ?');
	const list = compiler.select(MEMBERS, 'where organization = ? and principal_id > ? order by principal_id limit ?');
	const ofPrincipal = compiler.select(MEMBERS, 'where principal_id = ? order by organization');
	return {
		*insertMember(row: MemberRow) {
			yield insert(row);
			yield* raise();
		},
		*getMember(organization, principalId) {
			return MEMBERS.first(yield one(organization, principalId));
		},
		*deleteMember(organization, principalId) {
			const { changes } = yield remove(organization, principalId);
			if (changes > 0) yield* raise();
			return changes > 0;
		},
		*deleteMembersOf(organization) {
			yield removeAll(organization);
			yield* raise();
		},
		*listMembers({ organization, afterId, limit }) {
			return MEMBERS.all(yield list(organization, afterId, limit));
		},
		*listMemberships(principalId) {
			return MEMBERS.all(yield ofPrincipal(principalId));
		},
	};
}

type GroupMembers =
	| 'deleteGroupMembersIn'
	| 'insertGroupMember'
	| 'deleteGroupMember'
	| 'listGroupMembers'
	| 'groupsOf';

function groupMembers(compiler: Compiler): Pick<Identities, GroupMembers> {
	const insert = compiler.insert(GROUP_MEMBERS);
	const raise = raiseEpoch(compiler);
	const remove = compiler.statement('delete from group_members where group_id = ? and principal_id = ?');
	const removeIn = compiler.statement(
		'delete from group_members where principal_id = ? and group_id in (select id from principals where organization = ?)',
	);
	const list = compiler.select(GROUP_MEMBERS, 'where group_id = ? and principal_id > ? order by principal_id limit ?');
	const groups = compiler.select(
		PRINCIPALS,
		`where deleted_at_ms is null and id in (select group_id from group_members where principal_id = ?) order by id`,
	);
	return {
		*insertGroupMember(row: GroupMemberRow) {
			yield insert(row);
			yield* raise();
		},
		*deleteGroupMember(groupId, principalId) {
			const { changes } = yield remove(groupId, principalId);
			if (changes > 0) yield* raise();
			return changes > 0;
		},
		*deleteGroupMembersIn(organization, principalId) {
			yield removeIn(principalId, organization);
			yield* raise();
		},
		*listGroupMembers({ groupId, afterId, limit }) {
			return GROUP_MEMBERS.all(yield list(groupId, afterId, limit));
		},
		*groupsOf(principalId) {
			return PRINCIPALS.all(yield groups(principalId));
		},
	};
}
