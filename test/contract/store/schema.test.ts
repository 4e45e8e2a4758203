import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadMigrations, pendingMigrations } from '../../../control-plane/store/migrations/files.ts';
import { LOCK_KEY, migratePg } from '../../../control-plane/store/pg/migrate.ts';
import { SqliteConnection } from '../../../control-plane/store/sqlite/connection.ts';
import { migrateSqlite } from '../../../control-plane/store/sqlite/migrate.ts';
import { snake, type Table } from '../../../control-plane/store/tables/columns.ts';
import * as iamSchema from '../../../control-plane/store/tables/iam-schema.ts';
import * as loginSchema from '../../../control-plane/store/tables/login-schema.ts';
import * as quotaSchema from '../../../control-plane/store/tables/quota-schema.ts';
import * as schema from '../../../control-plane/store/tables/schema.ts';
import { systemClock } from '../../../kit/clock.ts';
import { eventually } from '../../eventually.ts';
import { PostgresServer } from '../../fakes/postgres.ts';
import { openAt, rawSqlite, temporaryFolder } from './stores.ts';

/** A column as both dialects describe it once their own type names are translated. */
interface Column {
	readonly table: string;
	readonly column: string;
	readonly kind: string;
	readonly nullable: boolean;
}

/** Tables that only one dialect needs, each with its reason in its migration. */
const ONE_DIALECT: readonly string[] = ['audit_pending'];
const KINDS: Readonly<Record<string, string>> = {
	TEXT: 'text',
	INTEGER: 'int',
	BIGINT: 'int',
	BLOB: 'bytes',
	text: 'text',
	bigint: 'int',
	bytea: 'bytes',
	boolean: 'bool',
	jsonb: 'json',
};

function sqliteColumns(path: string): Column[] {
	const sql = `SELECT t.name AS "table", c.name AS "column", c.type, c."notnull" AS required,
		instr(t.sql, c.name || ' INTEGER NOT NULL CHECK (' || c.name || ' IN (0, 1))') > 0 AS bool,
		instr(t.sql, 'json_valid(' || c.name || ')') > 0 AS json
		FROM sqlite_schema AS t, pragma_table_info(t.name) AS c WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'`;
	return rawSqlite(path, sql).map((row) => ({
		table: String(row.table),
		column: String(row.column),
		kind: row.bool === 1 ? 'bool' : row.json === 1 ? 'json' : (KINDS[String(row.type)] ?? String(row.type)),
		nullable: row.required === 0,
	}));
}

async function pgColumns(server: PostgresServer, url: string): Promise<Column[]> {
	const rows = await server.query(
		url,
		`SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns WHERE table_schema = 'public'`,
	);
	return rows.map((row) => ({
		table: String(row.table_name),
		column: String(row.column_name),
		kind: KINDS[String(row.data_type)] ?? String(row.data_type),
		nullable: row.is_nullable === 'YES',
	}));
}

/** Name, table, uniqueness and columns; the predicate of a partial index is text of the dialect, so only its presence. */
async function pgIndexes(server: PostgresServer, url: string): Promise<string[]> {
	const rows = await server.query(
		url,
		`SELECT i.relname AS name, t.relname AS "table", x.indisunique, x.indpred IS NOT NULL AS partial,
			(SELECT string_agg(a.attname, ',' ORDER BY k.place) FROM unnest(x.indkey) WITH ORDINALITY AS k(attnum, place)
				JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum) AS columns
		FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
		JOIN pg_namespace n ON n.oid = t.relnamespace WHERE n.nspname = 'public'
		AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.oid)`,
	);
	return rows.map((row) => [row.name, row.table, row.columns, row.indisunique, row.partial].join(' ')).sort();
}

function sqliteIndexes(path: string): string[] {
	const sql = `SELECT i.name, m.tbl_name AS "table", i."unique", i.partial,
		(SELECT group_concat(name, ',') FROM (SELECT name FROM pragma_index_info(i.name) ORDER BY seqno)) AS columns
		FROM sqlite_schema AS m, pragma_index_list(m.name) AS i WHERE m.type = 'table' AND i.origin = 'c'`;
	return rawSqlite(path, sql)
		.map((row) => [row.name, row.table, row.columns, row.unique === 1, row.partial === 1].join(' '))
		.sort();
}

const order = (columns: readonly Column[]) =>
	columns
		.filter(({ table }) => !ONE_DIALECT.includes(table))
		.map(({ table, column, kind, nullable }) => `${table}.${column} ${kind}${nullable ? ' null' : ''}`)
		.sort();

describe('schema', () => {
	let server: PostgresServer;
	beforeAll(async () => {
		server = await PostgresServer.start();
	});
	afterAll(() => server[Symbol.asyncDispose]());

	test('is the same on both dialects', async () => {
		using folder = temporaryFolder();
		const path = join(folder.path, 'store.db');
		await (await openAt(path))[Symbol.asyncDispose]();
		const url = await server.createDatabase();
		await (await openAt(url))[Symbol.asyncDispose]();
		expect(order(sqliteColumns(path))).toEqual(order(await pgColumns(server, url)));
		expect(sqliteIndexes(path)).toEqual(await pgIndexes(server, url));
		expect(sqliteIndexes(path).length).toBeGreaterThan(15);
	});

	test('has each column that the tables read and write, of its kind', async () => {
		const url = await server.createDatabase();
		await (await openAt(url))[Symbol.asyncDispose]();
		const there = new Set(
			(await pgColumns(server, url)).map(({ table, column, kind }) => `${table}.${column} ${kind}`),
		);
		// Leaves are a join of three tables.
		const tables = (
			Object.values({ ...schema, ...iamSchema, ...loginSchema, ...quotaSchema }) as readonly Table<object>[]
		).filter(({ name }) => name !== 'audit_leaves');
		const missing = tables.flatMap(({ name, kinds }) =>
			[...kinds].map(([field, kind]) => `${name}.${snake(field)} ${kind}`).filter((column) => !there.has(column)),
		);
		expect(tables.length).toBeGreaterThan(10);
		expect(missing).toEqual([]);
	});

	test('opening twice, and by two at once, migrates once', async () => {
		const url = await server.createDatabase();
		const stores = await Promise.all([openAt(url), openAt(url), openAt(url)]);
		for (const store of stores) await store[Symbol.asyncDispose]();
		const rows = await server.query(url, 'SELECT version FROM schema_migrations');
		expect(rows).toHaveLength(loadMigrations('pg').length);
	});

	test('one that comes while another migrates waits until that is done', async () => {
		const url = await server.createDatabase();
		const migrating = new pg.Client({ connectionString: url });
		await migrating.connect();
		try {
			await migrating.query('BEGIN');
			await migrating.query('SELECT pg_advisory_xact_lock($1)', [LOCK_KEY]);
			let isOpen = false;
			const opening = openAt(url).finally(() => {
				isOpen = true;
			});
			const waiting = `SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`;
			await eventually('it waits', async () => isOpen || (await server.query(url, waiting)).length === 1);
			expect([isOpen, await pgColumns(server, url)]).toEqual([false, []]);
			await migrating.query('COMMIT');
			await (await opening)[Symbol.asyncDispose]();
		} finally {
			await migrating.end();
		}
	});

	const latest = loadMigrations('sqlite').length;
	for (let version = 0; version <= latest; version += 1) {
		test(`a SQLite database of version ${version} is brought to ${latest} with its rows`, async () => {
			using folder = temporaryFolder();
			const path = join(folder.path, 'store.db');
			const connection = new SqliteConnection({ at: { path } });
			migrateSqlite(connection, systemClock, loadMigrations('sqlite').slice(0, version));
			connection.close();
			if (version > 0) rawSqlite(path, fixture(version, 'sqlite'));
			await assertRows(path, version);
		});

		test(`a PostgreSQL database of version ${version} is brought to ${latest} with its rows`, async () => {
			const url = await server.createDatabase();
			await migratePg(url, systemClock, loadMigrations('pg').slice(0, version));
			if (version > 0) await server.query(url, fixture(version, 'pg'));
			await assertRows(url, version);
		});
	}

	test('a database of a newer program is refused', async () => {
		using folder = temporaryFolder();
		const path = join(folder.path, 'store.db');
		await (await openAt(path))[Symbol.asyncDispose]();
		const url = await server.createDatabase();
		await (await openAt(url))[Symbol.asyncDispose]();
		const sql = `INSERT INTO schema_migrations (version, name, checksum, applied_at_ms) VALUES (${latest + 1}, 'next', 'x', 1)`;
		rawSqlite(path, sql);
		await server.query(url, sql);
		for (const at of [path, url]) await expect(openAt(at)).rejects.toMatchObject({ reason: 'SCHEMA_TOO_NEW' });
	});

	test('an applied schema change that was edited is refused', async () => {
		using folder = temporaryFolder();
		const path = join(folder.path, 'store.db');
		await (await openAt(path))[Symbol.asyncDispose]();
		const url = await server.createDatabase();
		await (await openAt(url))[Symbol.asyncDispose]();
		const sql = `UPDATE schema_migrations SET checksum = 'edited' WHERE version = 1`;
		rawSqlite(path, sql);
		await server.query(url, sql);
		for (const at of [path, url]) await expect(openAt(at)).rejects.toMatchObject({ reason: 'SCHEMA_CHANGED' });
	});

	test('a schema change that fails leaves the database as it was', async () => {
		using folder = temporaryFolder();
		const path = join(folder.path, 'store.db');
		const broken = { version: latest + 1, name: 'broken', sql: 'CREATE TABLE half (a TEXT); NOT SQL;', checksum: 'x' };
		const connection = new SqliteConnection({ at: { path } });
		expect(() => migrateSqlite(connection, systemClock, [...loadMigrations('sqlite'), broken])).toThrow();
		connection.close();
		expect(rawSqlite(path, 'SELECT name FROM sqlite_schema')).toEqual([]);
		const url = await server.createDatabase();
		await expect(migratePg(url, systemClock, [...loadMigrations('pg'), broken])).rejects.toThrow();
		expect(await pgColumns(server, url)).toEqual([]);
	});

	test('both dialects have the same changes, numbered alike', () => {
		const names = (dialect: 'sqlite' | 'pg') =>
			loadMigrations(dialect).map(({ version, name }) => `${version} ${name}`);
		expect(names('sqlite')).toEqual(names('pg'));
		expect(pendingMigrations(loadMigrations('pg'), [])).toHaveLength(latest);
	});
});

/** Rows as a program of that version wrote them. */
function fixture(version: number, dialect: 'sqlite' | 'pg'): string {
	return readFileSync(
		join(import.meta.dirname, 'fixtures', `${String(version).padStart(4, '0')}.${dialect}.sql`),
		'utf8',
	);
}

/** The fixture of every version holds the node `fixture` with one task and one audit leaf. */
async function assertRows(url: string, version: number): Promise<void> {
	await using store = await openAt(url);
	const rows = await store.read(function* (tx) {
		return {
			node: yield* tx.nodes.get('fixture'),
			task: yield* tx.tasks.get('task'),
			leaves: yield* tx.audit.listUnchained(10),
			chained: yield* tx.audit.list(1, 10),
			project: yield* tx.scopes.get('organizations/acme/projects/train'),
			ada: yield* tx.identities.getPrincipal('ada'),
			bindings: yield* tx.access.listBindings(['ada']),
			recording: version < 4 ? undefined : yield* tx.recordings.get('recording'),
			inventories: yield* tx.inventories.ofNode('fixture'),
			approval: version < 7 ? undefined : yield* tx.approvals.get('approval'),
			changes: yield* tx.inventories.listChanges('fixture', 10),
			health: yield* tx.healthFacts.ofNode('fixture', 10),
			quotas: yield* tx.quotas.at(['organizations/acme', 'organizations/acme/projects/train']),
			held: yield* tx.quotas.reservations('nodes', ['held', 'assignment']),
			entitled: yield* tx.entitlements.inForce(['organizations/acme'], ['gpu-model/*', 'feature/host-mode'], 5),
			features: yield* tx.features.all(10),
			verdict: yield* tx.nodeHealth.get('fixture'),
			overrides: yield* tx.nodeHealth.overridesOf(['fixture']),
			request: yield* tx.requestKeys.get('ada', 'm', 'request'),
			unanswered: yield* tx.tasks.listUnanswered('fixture', 5, 10),
			counted: [
				yield* tx.access.countRoles('acme'),
				yield* tx.invitations.countOpen('acme', 5),
				yield* tx.apiKeys.countLive('ada', 5, ''),
			],
		};
	});
	if (version === 0) {
		expect(rows).toMatchObject({ node: undefined, task: undefined, leaves: [], bindings: [], inventories: [] });
		return;
	}
	expect(rows.node).toMatchObject({ name: 'gpu-1', labels: { rack: 'r1' }, cordoned: true, epoch: 3 });
	expect(rows.task).toMatchObject({ nodeId: 'fixture', state: 'queued', spec: Uint8Array.of(1, 2) });
	expect(rows.unanswered.map(({ id }) => id)).toEqual(version < 19 ? [] : ['unheard']);
	expect(rows.leaves.map(({ id }) => id)).toEqual(['leaf']);
	// Copied out of the leaf of a program that had no such column.
	if (version >= 9) expect(rows.leaves).toMatchObject([{ organization: 'acme' }]);
	if (version >= 12) expect(rows.chained).toMatchObject([{ id: 'chained', seq: 1, organization: 'acme' }]);
	expect(rows.project).toMatchObject({ path: '/acme/p.train/', parent: 'organizations/acme', state: 'active' });
	expect(rows.ada).toMatchObject({ kind: 'operator', organization: null, version: 1 });
	expect(rows.bindings).toMatchObject([{ role: 'platform.operator', scope: 'platform', permissions: [] }]);
	if (version >= 4)
		expect(rows.recording).toMatchObject({
			terminalId: 'terminal',
			state: 'recording',
			manifest: null,
			gaps: version < 12 ? 0 : 2,
			gapBytes: version < 12 ? 0 : 1500,
		});
	if (version >= 7) expect(rows.approval).toMatchObject({ requesterId: 'ada', scope: 'platform' });
	expect(rows.inventories.map(({ digest }) => digest)).toEqual(version < 5 ? [] : ['d']);
	expect(rows.changes.map(({ id }) => id)).toEqual(version < 5 ? [] : ['change']);
	expect(rows.health.map(({ code }) => code)).toEqual(version < 8 ? [] : ['xid:79']);
	// What was open before there were quotas counts with them, at each level.
	if (version >= 9) {
		expect(rows.held).toMatchObject([
			{ holder: 'held', scope: 'organizations/acme/projects/train', state: 'committed' },
		]);
		expect(rows.quotas.map(({ scope, kind, used }) => `${scope} ${kind} ${used}`).sort()).toEqual([
			'organizations/acme nodes 1',
			'organizations/acme/projects/train nodes 1',
		]);
	}
	// Whoever was there goes on with what they could do.
	expect(rows.entitled.map(({ subject }) => subject).sort()).toEqual(
		version < 10 ? ['feature/host-mode', 'gpu-model/*'] : ['gpu-model/*'],
	);
	expect(rows.features).toHaveLength(version < 10 ? 0 : 1);
	if (version >= 11) expect(rows.verdict).toMatchObject({ state: 'UNHEALTHY', quarantines: [7], version: 3 });
	expect(rows.overrides.map(({ reason }) => reason)).toEqual(version < 11 ? [] : ['looks wrong']);
	if (version >= 16) expect(rows.request).toMatchObject({ leafId: version < 17 ? null : 'leaf', expiresAtMs: 9 });
	if (version >= 18) expect(rows.counted, 'a role, an invitation, a key').toEqual([1, 1, 1]);
	await store.check();
}
