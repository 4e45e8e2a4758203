import pg from 'pg';
import { GpuaasError } from '../../../kit/error.ts';

/**
 * The three roles of row security (docs/adr/0025): `gpuaas_migrator` owns the tables, `gpuaas_app_system` does the
 * platform's own work, `gpuaas_app_tenant` works for a tenant and sees that tenant's rows only. Nobody logs in as one of
 * them: the user of the store's URL is a member and takes on one for each transaction.
 */
export const MIGRATOR_ROLE = 'gpuaas_migrator';
export const SYSTEM_ROLE = 'gpuaas_app_system';
export const TENANT_ROLE = 'gpuaas_app_tenant';
const ROLES = [MIGRATOR_ROLE, SYSTEM_ROLE, TENANT_ROLE] as const;
const IS_OURS = `in (${ROLES.map((role) => `'${role}'`).join(', ')})`;

/** Since 16 whoever makes a role is its member and may yet not take it on: that is a right of its own. */
const MAY_TAKE_ON = `case when current_setting('server_version_num')::int >= 160000 then 'SET' else 'MEMBER' end`;

interface Standing {
	readonly user: string;
	readonly schema: string;
	readonly missing: readonly string[];
	readonly notMember: readonly string[];
	readonly mayNotCreate: boolean;
	readonly mayNotUse: readonly string[];
}

/** Roles are of the whole server, so another database of it may have made them, at this very moment too. */
const CREATE_ROLE = (role: string) => `DO $$ BEGIN CREATE ROLE ${role} NOLOGIN;
	EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`;

/** Another database of the server makes the same roles at this moment: seen as a duplicate, or as a row that moved. */
const RACES: ReadonlySet<string> = new Set(['23505', 'XX000']);
const ATTEMPTS_MAX = 5;

/**
 * That the roles are there and this user may take them on: makes what is missing where the user may. In the transaction
 * of the schema changes. Throws DATABASE_ROLES_MISSING, saying what an administrator has to run: without row security
 * this control plane doesn't start. Throws DATABASE_ROLES_SHARED where it comes to a server whose roles are another's.
 */
export async function ensureRoles(client: pg.Client): Promise<void> {
	await refuseSecond(client);
	let cause: unknown;
	for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
		if (isGood(await standing(client))) break;
		await client.query('SAVEPOINT roles');
		try {
			await makeRoles(client);
		} catch (error) {
			cause = error;
			await client.query('ROLLBACK TO roles');
			if (!(error instanceof pg.DatabaseError && RACES.has(error.code ?? ''))) break;
		}
	}
	const found = await standing(client);
	if (!isGood(found)) throw rolesMissing(client, found, cause);
	const others = (await client.query<OtherUser>(OTHER_USERS)).rows;
	if (others.length > 0 && (await isNew(client))) throw rolesShared(`${sharedWith(others)}; nothing starts`);
}

async function makeRoles(client: pg.Client): Promise<void> {
	for (const role of (await standing(client)).missing) await client.query(CREATE_ROLE(role));
	const { user, schema, notMember, mayNotCreate, mayNotUse } = await standing(client);
	const at = client.escapeIdentifier(schema);
	if (notMember.length > 0) await client.query(`GRANT ${notMember.join(', ')} TO ${client.escapeIdentifier(user)}`);
	if (mayNotUse.length > 0) await client.query(`GRANT USAGE ON SCHEMA ${at} TO ${mayNotUse.join(', ')}`);
	if (mayNotCreate) await client.query(`GRANT CREATE ON SCHEMA ${at} TO ${MIGRATOR_ROLE}`);
}

/** What this user made before there were roles goes to the one that makes everything from now on. */
export async function handOver(client: pg.Client, tables: readonly string[]): Promise<void> {
	const { rows } = await client.query<{ readonly statement: string }>(
		`with me as (select oid from pg_roles where rolname = session_user)
		select format('ALTER TABLE %s OWNER TO ${MIGRATOR_ROLE}', pg_class.oid::regclass) as statement from pg_class, me
			where relnamespace = quote_ident(current_schema())::regnamespace and relkind = 'r' and relowner = me.oid and relname = any($1::text[])
		union all select format('ALTER FUNCTION %s OWNER TO ${MIGRATOR_ROLE}', pg_proc.oid::regprocedure) from pg_proc, me
			where pronamespace = quote_ident(current_schema())::regnamespace and proowner = me.oid and proname like 'gpuaas\\_%'`,
		[tables],
	);
	for (const { statement } of rows) await client.query(statement);
}

function isGood({ missing, notMember, mayNotCreate, mayNotUse }: Standing): boolean {
	return missing.length === 0 && notMember.length === 0 && !mayNotCreate && mayNotUse.length === 0;
}

async function standing(client: pg.Client): Promise<Standing> {
	const { rows } = await client.query<{
		readonly user: string;
		readonly schema: string;
		readonly role: string;
		readonly isThere: boolean;
		readonly isMember: boolean;
		readonly mayUse: boolean;
		readonly mayCreate: boolean;
	}>(
		`select session_user::text as "user", current_schema()::text as "schema", wanted.role, there.oid is not null as "isThere",
			coalesce(pg_has_role(session_user, there.oid, ${MAY_TAKE_ON}), false) as "isMember",
			coalesce(has_schema_privilege(there.oid, current_schema(), 'USAGE'), false) as "mayUse",
			coalesce(has_schema_privilege(there.oid, current_schema(), 'CREATE'), false) as "mayCreate"
		from unnest($1::text[]) as wanted(role) left join pg_roles as there on there.rolname = wanted.role`,
		[ROLES],
	);
	const there = rows.filter(({ isThere }) => isThere);
	return {
		user: rows[0]?.user ?? '',
		schema: rows[0]?.schema ?? 'public',
		missing: rows.filter(({ isThere }) => !isThere).map(({ role }) => role),
		notMember: there.filter(({ isMember }) => !isMember).map(({ role }) => role),
		mayNotUse: there.filter(({ mayUse }) => !mayUse).map(({ role }) => role),
		mayNotCreate: !there.some(({ role, mayCreate }) => role === MIGRATOR_ROLE && mayCreate),
	};
}

export interface OtherUser {
	readonly user: string;
	/** The grant to end; null where that would take the roles from this control plane too. */
	readonly revoke: string | null;
}

/**
 * The roles are of the whole server: another user who may take them on, of another installation, could read and drop this
 * one's tables. Superusers can anyway, and so can whoever may become our own user (an administrator who is its member, to
 * make a database for it). Whom our own user may become is an earlier user of this installation.
 */
export const OTHER_USERS = `select other.rolname::text as "user",
		string_agg(distinct format('REVOKE %s FROM %s', ours.oid::regrole, given.member::regrole), '; ')
			filter (where me.rolsuper or not pg_has_role(me.oid, given.member, ${MAY_TAKE_ON})) as revoke
	from pg_roles as me, pg_roles as other, pg_roles as ours join pg_auth_members as given on given.roleid = ours.oid
	where me.rolname = session_user and ours.rolname ${IS_OURS}
		and other.rolcanlogin and not other.rolsuper and other.oid <> me.oid
		and pg_has_role(other.oid, ours.oid, ${MAY_TAKE_ON}) and pg_has_role(other.oid, given.member, ${MAY_TAKE_ON})
		and not pg_has_role(other.oid, me.oid, ${MAY_TAKE_ON})
		and (me.rolsuper or not pg_has_role(me.oid, other.oid, ${MAY_TAKE_ON}))
	group by 1 order by 1 limit 10`;

/** Only whoever comes to the roles now is kept from starting: one that has its tables there must not be locked out by another. */
async function isNew(client: pg.Client): Promise<boolean> {
	const { rows } = await client.query(
		`select 1 from pg_class join pg_roles on pg_roles.oid = relowner where rolname = '${MIGRATOR_ROLE}'
			and relnamespace = quote_ident(current_schema())::regnamespace and relname = 'schema_migrations'`,
	);
	return rows.length === 0;
}

/** Before it makes itself a member: before PostgreSQL 16 whoever may create roles may take every one. Superusers are members. */
async function refuseSecond(client: pg.Client): Promise<void> {
	const { user, notMember } = await standing(client);
	if (notMember.length === 0) return;
	const { rows } = await client.query<{ readonly name: string }>(
		`select distinct datname::text as "name" from pg_shdepend join pg_roles on pg_roles.oid = refobjid
				join pg_database on pg_database.oid = dbid
			where refclassid = 'pg_authid'::regclass and deptype = 'o' and rolname ${IS_OURS} and datname <> current_database()
			order by 1 limit 10`,
	);
	if (rows.length === 0) return;
	const names = rows.map(({ name }) => name).join(', ');
	throw rolesShared(
		`on this database server the roles of row security have tables in ${names}, and the user ${user} of the store's URL, who is not yet a member of them, could then read and change everything there; nothing was changed and nothing starts`,
		`if that is this installation's own, under an earlier user, let an administrator run: GRANT ${notMember.join(', ')} TO ${client.escapeIdentifier(user)}`,
	);
}

/** What was found, and the statement that ends it where there is one. */
export function sharedWith(others: readonly OtherUser[]): string {
	const names = others.map(({ user }) => user).join(', ');
	const sql = others.flatMap(({ revoke }) => revoke ?? []).join('; ');
	const ending = sql === '' ? '' : ` (if they are no longer needed, let an administrator run: ${sql})`;
	return `on this database server ${names} may take on the roles of row security too, and so could read and change everything here${ending}`;
}

function rolesShared(found: string, otherwise?: string): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'DATABASE_ROLES_SHARED',
		message: `${found}. Give each installation a server of its own${otherwise === undefined ? '' : `; or, ${otherwise}`}`,
	});
}

function rolesMissing(client: pg.Client, found: Standing, cause?: unknown): GpuaasError {
	const [user, schema] = [client.escapeIdentifier(found.user), client.escapeIdentifier(found.schema)];
	const { missing, notMember, mayNotUse, mayNotCreate } = found;
	const sql = [
		...missing.map((role) => `CREATE ROLE ${role} NOLOGIN`),
		...granting([...missing, ...notMember], (roles) => `GRANT ${roles} TO ${user}`),
		...granting([...missing, ...mayNotUse], (roles) => `GRANT USAGE ON SCHEMA ${schema} TO ${roles}`),
		...(mayNotCreate ? [`GRANT CREATE ON SCHEMA ${schema} TO ${MIGRATOR_ROLE}`] : []),
	].join('; ');
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'DATABASE_ROLES_MISSING',
		message: `the database keeps tenants apart by three roles, and the user ${found.user} of the store's URL neither has them nor may make them; nothing was changed and nothing starts without them. Let an administrator of the database run once: ${sql}`,
		...(cause === undefined ? {} : { cause }),
	});
}

/** One statement for all of them; none for none. */
function granting(roles: readonly string[], statement: (roles: string) => string): readonly string[] {
	return roles.length === 0 ? [] : [statement(roles.join(', '))];
}
