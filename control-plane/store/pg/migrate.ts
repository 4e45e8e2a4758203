import type pg from 'pg';
import { present } from '../../../kit/assert.ts';
import type { Clock } from '../../../kit/clock.ts';
import {
	type AppliedMigration,
	loadMigrations,
	MIGRATIONS_TABLE,
	type Migration,
	pendingMigrations,
	tablesOf,
} from '../migrations/files.ts';
import { withConnection } from './pool.ts';
import { ensureRoles, handOver, MIGRATOR_ROLE } from './roles.ts';

/** Any number that nobody else in the database uses: "gpua". */
export const LOCK_KEY = 0x67707561;

/**
 * One transaction for all of it, under a lock: replicas that start together migrate one after another. What it makes
 * belongs to the migrator's role. Gives the schema that the tables are in. Throws DATABASE_ROLES_MISSING and
 * DATABASE_ROLES_SHARED.
 */
export async function migratePg(
	url: string,
	clock: Clock,
	migrations: readonly Migration[] = loadMigrations('pg'),
): Promise<string> {
	return await withConnection(url, async (client) => {
		await client.query('BEGIN');
		await client.query('SELECT pg_advisory_xact_lock($1)', [LOCK_KEY]);
		await ensureRoles(client);
		await handOver(client, tablesOf(migrations));
		const schema = await fixSchema(client);
		await client.query(`SET LOCAL ROLE ${MIGRATOR_ROLE}`);
		await client.query(MIGRATIONS_TABLE);
		const applied = await client.query<AppliedMigration>(
			'SELECT version, checksum FROM schema_migrations ORDER BY version',
		);
		for (const { version, name, sql, checksum } of pendingMigrations(migrations, applied.rows)) {
			await client.query(sql);
			await client.query(
				'INSERT INTO schema_migrations (version, name, checksum, applied_at_ms) VALUES ($1, $2, $3, $4)',
				[version, name, checksum, clock.now()],
			);
		}
		await client.query('COMMIT');
		return schema;
	});
}

/** The path's `$user` is whoever the role makes of it, and not the user whose schema has the tables. */
async function fixSchema(client: pg.Client): Promise<string> {
	const { rows } = await client.query<{ readonly schema: string }>(
		`select current_schema()::text as "schema", set_config('search_path', quote_ident(current_schema()), true)`,
	);
	return present(rows[0], 'a schema was made sure of with the roles').schema;
}
