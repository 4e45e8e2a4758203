import type { Clock } from '../../../kit/clock.ts';
import {
	type AppliedMigration,
	loadMigrations,
	MIGRATIONS_TABLE,
	type Migration,
	pendingMigrations,
} from '../migrations/files.ts';
import { withConnection } from './pool.ts';

/** Any number that nobody else in the database uses: "gpua". */
const LOCK_KEY = 0x67707561;

/** One transaction for all of it, under a lock: replicas that start together migrate one after another. */
export async function migratePg(
	url: string,
	clock: Clock,
	migrations: readonly Migration[] = loadMigrations('pg'),
): Promise<void> {
	await withConnection(url, async (client) => {
		await client.query('BEGIN');
		await client.query('SELECT pg_advisory_xact_lock($1)', [LOCK_KEY]);
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
	});
}
