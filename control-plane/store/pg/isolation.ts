import { GpuaasError } from '../../../kit/error.ts';
import { loadMigrations, tablesOf } from '../migrations/files.ts';
import type { Plan } from '../port/unit.ts';
import { MIGRATOR_ROLE, OTHER_USERS, type OtherUser, SYSTEM_ROLE, sharedWith, TENANT_ROLE } from './roles.ts';

/**
 * What turns row security off when somebody changes the database by hand: a table that isn't held, whoever owns it; a
 * tenant's role that is above policies or takes on another; a policy or a condition that is not ours.
 */
const UNISOLATED = `with ours as (select * from pg_class
		where relnamespace = quote_ident(current_schema())::regnamespace and relkind = 'r' and relname = any($1::text[]))
	select 'table ' || relname as "name" from ours
		where relname <> 'schema_migrations' and not (relrowsecurity and relforcerowsecurity)
	union all select 'role ' || rolname from pg_roles where rolname = '${TENANT_ROLE}' and (rolsuper or rolbypassrls
		or pg_has_role(oid, '${SYSTEM_ROLE}', 'MEMBER') or pg_has_role(oid, '${MIGRATOR_ROLE}', 'MEMBER'))
	union all select 'policy ' || polname || ' on ' || relname from pg_policy join ours on ours.oid = polrelid
		where polname not in ('system', 'tenant', 'root')
		or (polname = 'system' and '${TENANT_ROLE}'::regrole::oid = any(polroles)) or 0 = any(polroles)
	union all select 'function gpuaas_organizations' where not exists (select 1 from pg_proc
		where pronamespace = quote_ident(current_schema())::regnamespace and proname = 'gpuaas_organizations'
		and prosrc like '%string_to_array(current_setting(''gpuaas.organization'', true), '','')%')`;

const TABLES = tablesOf(loadMigrations('pg'));

export function* unisolated(): Plan<readonly string[]> {
	return (yield { sql: UNISOLATED, parameters: [TABLES] }).rows.map(({ name }) => String(name));
}

/** Tenants are kept apart, and yet somebody else on the server comes to their rows: said, and nothing is stopped. */
export function* shared(): Plan<string | undefined> {
	const { rows } = yield { sql: OTHER_USERS, parameters: [] };
	const others = rows.map(
		({ user, revoke }): OtherUser => ({ user: String(user), revoke: revoke === null ? null : String(revoke) }),
	);
	return others.length === 0 ? undefined : sharedWith(others);
}

export function isolationBroken(names: readonly string[]): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'ISOLATION_BROKEN',
		message: `row security is not as this program made it, so tenants may see each other: ${names.join(', ')}. Somebody changed the database by hand; let an administrator of the database undo it`,
	});
}
