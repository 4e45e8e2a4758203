import type { Clock } from '../../../kit/clock.ts';
import {
	type AppliedMigration,
	loadMigrations,
	MIGRATIONS_TABLE,
	type Migration,
	pendingMigrations,
} from '../migrations/files.ts';
import type { SqliteConnection } from './connection.ts';

/** One exclusive transaction for all of it: either the database has the schema of this program or it is as it was. */
export function migrateSqlite(
	connection: SqliteConnection,
	clock: Clock,
	migrations: readonly Migration[] = loadMigrations('sqlite'),
): void {
	connection.exclusively((run) => {
		run(MIGRATIONS_TABLE, []);
		const applied = run('SELECT version, checksum FROM schema_migrations ORDER BY version', []);
		for (const { version, name, sql, checksum } of pendingMigrations(
			migrations,
			applied as readonly unknown[] as readonly AppliedMigration[],
		)) {
			connection.exec(sql);
			const parameters = [version, name, checksum, clock.now()];
			run('INSERT INTO schema_migrations (version, name, checksum, applied_at_ms) VALUES (?, ?, ?, ?)', parameters);
		}
	});
}
