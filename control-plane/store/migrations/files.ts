import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { assert } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';

/**
 * Schema changes: numbered SQL files, one a dialect, forward only. An applied file never changes; its checksum is kept
 * in the database and compared at every start. A database of a newer binary is refused: an older one would write
 * rows that lack what the newer schema promises.
 */
export interface Migration {
	/** From 1, without gaps. */
	readonly version: number;
	readonly name: string;
	readonly sql: string;
	/** Hex SHA-256 of the file. */
	readonly checksum: string;
}

export interface AppliedMigration {
	readonly version: number;
	readonly checksum: string;
}

/** Kept by the runners; the same in both dialects. */
export const MIGRATIONS_TABLE = `CREATE TABLE IF NOT EXISTS schema_migrations (
	version BIGINT NOT NULL PRIMARY KEY,
	name TEXT NOT NULL,
	checksum TEXT NOT NULL,
	applied_at_ms BIGINT NOT NULL
)`;

export function loadMigrations(dialect: 'sqlite' | 'pg', folder = import.meta.dirname): readonly Migration[] {
	const suffix = `.${dialect}.sql`;
	const names = readdirSync(folder)
		.filter((name) => name.endsWith(suffix))
		.sort();
	return names.map((file, index) => {
		const sql = readFileSync(`${folder}/${file}`, 'utf8');
		const [, digits = '', name = ''] = /^(\d{4})_([a-z0-9_]+)\./.exec(file) ?? [];
		assert(Number(digits) === index + 1, `${file}: migrations are numbered from 0001 without gaps`);
		return { version: index + 1, name, sql, checksum: createHash('sha256').update(sql).digest('hex') };
	});
}

/** The migrations that are still to run. Throws SCHEMA_TOO_NEW or SCHEMA_CHANGED. */
export function pendingMigrations(
	known: readonly Migration[],
	applied: readonly AppliedMigration[],
): readonly Migration[] {
	for (const { version, checksum } of applied) {
		const migration = known[version - 1];
		if (migration === undefined) {
			throw new GpuaasError({
				code: 'FAILED_PRECONDITION',
				reason: 'SCHEMA_TOO_NEW',
				message: `the database has schema version ${version} and this program knows up to ${known.length}: it was used by a newer version. Start that version, or restore a backup from before the upgrade`,
			});
		}
		if (migration.checksum !== checksum) {
			throw new GpuaasError({
				code: 'FAILED_PRECONDITION',
				reason: 'SCHEMA_CHANGED',
				message: `schema change ${version} (${migration.name}) was applied to this database in another form than this program has. Install an unmodified release; a released schema change is never edited`,
			});
		}
	}
	assert(
		applied.every(({ version }, index) => version === index + 1),
		'the database lacks a schema change between two that it has',
	);
	return known.slice(applied.length);
}

/** Names of all tables that these make, with that of the changes themselves. */
export function tablesOf(migrations: readonly Migration[]): readonly string[] {
	const made = migrations.flatMap(({ sql }) => [...sql.matchAll(/CREATE TABLE (\w+)/g)].map(([, name = '']) => name));
	return ['schema_migrations', ...made];
}
