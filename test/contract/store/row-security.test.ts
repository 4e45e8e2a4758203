import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadMigrations } from '../../../control-plane/store/migrations/files.ts';
import { openPgStore } from '../../../control-plane/store/pg/store.ts';
import type { Store, Tenancy } from '../../../control-plane/store/port/store.ts';
import { asPlatform } from '../../../control-plane/store/port/unit.ts';
import { systemClock } from '../../../kit/clock.ts';
import { systemRng } from '../../../kit/ids.ts';
import { silentLogger } from '../../../kit/log.ts';
import { PostgresServer } from '../../fakes/postgres.ts';
import { insertProject } from './projects.ts';
import { assignmentRow, nodeRow, taskRow } from './rows.ts';

/** What PostgreSQL itself keeps apart, whatever the application asks. */
const deps = { clock: systemClock, rng: systemRng, log: silentLogger };
const acme: Tenancy = { organizations: ['acme'], principalId: 'ada' };

let server: PostgresServer;
beforeAll(async () => {
	server = await PostgresServer.start({ durable: false });
});
afterAll(() => server[Symbol.asyncDispose]());

/** Both organizations have a project, a node and a task; the platform has a node of its own. */
async function filled(store: Store): Promise<void> {
	await store.unit(function* (tx) {
		yield* tx.nodes.insert(nodeRow('free'));
		for (const organization of ['acme', 'rival']) {
			yield* insertProject(tx, organization, 'train');
			const [node, held] = [`node-${organization}`, `held-${organization}`];
			const of = { organization, project: 'train' };
			yield* tx.nodes.insert(nodeRow(node, { name: node }));
			yield* tx.assignments.insert(assignmentRow(held, node, of));
			yield* tx.tasks.insert(taskRow(`task-${organization}`, node, { ...of, assignmentId: held }));
		}
	});
}

const before = loadMigrations('pg').slice(0, 12);
/** A database of the last version without roles. */
const beforeRoles = `CREATE TABLE schema_migrations (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL,
	applied_at_ms BIGINT NOT NULL); ${before.map(({ sql }) => sql).join('\n')};
	${before.map(({ version, name, checksum }) => `INSERT INTO schema_migrations VALUES (${version}, '${name}', '${checksum}', 1)`).join(';')}`;

const all = { afterId: '', limit: 100, visibility: { all: true }, includeRetired: true, selector: {} } as const;
const listNodes = (store: Store, tenancy?: Tenancy) =>
	store
		.read((tx) => tx.nodes.list(all), tenancy === undefined ? {} : { tenancy })
		.then((rows) => rows.map(({ id }) => id).toSorted());

describe('a tenant’s unit', () => {
	let store: Store;
	beforeAll(async () => {
		store = await openPgStore(await server.createDatabase(), deps, { connectionsMax: 1 });
		await filled(store);
	});
	afterAll(() => store[Symbol.asyncDispose]());

	test('sees its organization’s rows, and nothing without one', async () => {
		expect(await listNodes(store, acme)).toEqual(['node-acme']);
		expect(await listNodes(store, { organizations: ['acme', 'rival'], principalId: '' })).toHaveLength(2);
		expect(await listNodes(store, { organizations: [], principalId: 'ada' })).toEqual([]);
		const found = await store.read(
			function* (tx) {
				return [yield* tx.tasks.get('task-acme'), yield* tx.tasks.get('task-rival')].map((row) => row?.id);
			},
			{ tenancy: acme },
		);
		expect(found).toEqual(['task-acme', undefined]);
	});

	test('leaves nothing behind on its connection, whether it ends well or not', async () => {
		expect(await listNodes(store, acme)).toEqual(['node-acme']);
		expect(await listNodes(store)).toEqual(['free', 'node-acme', 'node-rival']);
		const failing = store.unit(
			function* (tx) {
				yield* tx.nodes.get('node-acme');
				throw new Error('changed its mind');
			},
			{ tenancy: acme },
		);
		await expect(failing).rejects.toThrow('changed its mind');
		expect(await listNodes(store)).toHaveLength(3);
		// It is one connection: what the tenant's transaction set ended with it.
		const left = await store.read(function* () {
			const sql = `select current_setting('gpuaas.organization', true) as organization,
				current_setting('gpuaas.principal', true) as principal`;
			return (yield { sql, parameters: [] }).rows[0];
		});
		expect(left).toEqual({ organization: '', principal: '' });
		expect(await listNodes(store, { organizations: ['rival'], principalId: '' })).toEqual(['node-rival']);
	});

	test('writes nothing of another organization, and the unit is undone', async () => {
		const foreign = store.unit(
			function* (tx) {
				yield* tx.tasks.update('task-acme', { message: 'half' });
				yield* tx.tasks.insert(taskRow('stray', 'node-acme', { organization: 'rival', project: 'train' }));
			},
			{ tenancy: acme },
		);
		await expect(foreign).rejects.toMatchObject({ code: 'PERMISSION_DENIED', reason: 'ROW_SECURITY_REFUSED' });
		const changed = await store.unit((tx) => tx.tasks.update('task-rival', { message: 'mine' }), { tenancy: acme });
		expect(changed).toBeUndefined();
		const rows = await store.read(function* (tx) {
			return [yield* tx.tasks.get('task-acme'), yield* tx.tasks.get('task-rival'), yield* tx.tasks.get('stray')];
		});
		expect(rows.map((row) => row?.message)).toEqual(['', '', undefined]);
	});

	test('writes no audit record but through the platform’s eyes', async () => {
		const row = {
			leaf: Buffer.from('{}'),
			clear: null,
			action: 'a',
			target: 't',
			organization: 'acme',
			actorIsOwn: 1,
			atMs: 1,
		};
		const forged = store.unit((tx) => tx.audit.append({ id: 'forged', ...row }), { tenancy: acme });
		await expect(forged).rejects.toMatchObject({ reason: 'ROW_SECURITY_REFUSED' });
		const seen = await store.unit(
			function* (tx) {
				yield* asPlatform(tx.audit.append({ id: 'own', ...row }));
				yield* asPlatform(tx.audit.append({ id: 'other', ...row, organization: 'rival' }));
				// Back to its own eyes.
				return (yield* tx.audit.listUnchained(10)).map(({ id }) => id);
			},
			{ tenancy: acme },
		);
		expect(seen).toEqual(['own']);
	});

	test('with a name that is no id of an organization doesn’t begin', async () => {
		for (const id of ["acme','x", 'a,rival', '']) {
			await expect(listNodes(store, { organizations: [id], principalId: '' })).rejects.toThrow('an id of its own form');
		}
		expect(await listNodes(store, { organizations: ['acme'], principalId: "o'Hara\\" })).toEqual(['node-acme']);
	});
});

test.each(['', '&options=-c%20search_path%3Dpublic'])(
	'a connection of the pool begins as a tenant of nobody%s',
	async (more) => {
		await using store = await openPgStore(`${await server.createDatabase()}${more}`, deps);
		const begun = await store.read(function* () {
			yield { sql: 'RESET ROLE', parameters: [] };
			const sql = 'select current_user::text as role';
			return (yield { sql, parameters: [] }).rows;
		});
		expect(begun).toEqual([{ role: 'gpuaas_app_tenant' }]);
	},
);

describe('the schema', () => {
	test('has row security forced on every table, with the tenant’s condition wherever a row names an organization', async () => {
		const url = await server.createDatabase();
		await (await openPgStore(url, deps))[Symbol.asyncDispose]();
		const open = await server.query(
			url,
			`select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
				and relname <> 'schema_migrations' and not (relrowsecurity and relforcerowsecurity)`,
		);
		expect(open, 'SELECT gpuaas_isolate(...) in its schema change').toEqual([]);
		const policies = await server.query(
			url,
			`select tablename, policyname, roles::text, qual, with_check from pg_policies`,
		);
		const tenants = new Map(
			policies.filter(({ policyname }) => policyname === 'tenant').map((row) => [row.tablename, row]),
		);
		const owned = await server.query(
			url,
			`select table_name from information_schema.columns where table_schema = 'public' and column_name = 'organization'`,
		);
		const without = owned.filter(({ table_name: name }) => {
			const { qual, with_check: check } = tenants.get(name) ?? {};
			return ![qual, check].every((text) => String(text).includes('organization = ANY'));
		});
		expect(without.map(({ table_name: name }) => name)).toEqual([]);
		expect(owned.length).toBeGreaterThan(12);
		// Asked once a statement: a bare call would be asked once a row.
		const bare = policies.filter(({ qual }) => /(?<!SELECT )gpuaas_(organizations|principal)\(\)/.test(String(qual)));
		expect(bare).toEqual([]);
		const grants = await server.query(
			url,
			`select table_name from information_schema.role_table_grants where grantee = 'gpuaas_app_tenant'
				and table_name not in (select tablename from pg_policies where policyname = 'tenant')`,
		);
		expect(grants).toEqual([]);
	});

	test.each([
		['a table that is not forced', 'ALTER TABLE tasks NO FORCE ROW LEVEL SECURITY', /table tasks/],
		[
			'a table of another owner',
			'ALTER TABLE tasks OWNER TO gpuaas; ALTER TABLE tasks DISABLE ROW LEVEL SECURITY',
			/tasks/,
		],
		['one more policy', 'CREATE POLICY more ON tasks TO gpuaas_app_tenant USING (true)', /policy more on tasks/],
		['everybody in a policy', 'ALTER POLICY tenant ON tasks TO PUBLIC', /policy tenant on tasks/],
		[
			'another answer to whose it is',
			`CREATE OR REPLACE FUNCTION gpuaas_organizations() RETURNS text[] LANGUAGE sql STABLE AS $$ SELECT ARRAY['acme', 'rival'] $$`,
			/function gpuaas_organizations/,
		],
	])('opened by hand is found by readiness and at the next start: %s', async (_what, sql, found) => {
		const url = await server.createDatabase();
		await using store = await openPgStore(url, deps);
		await store.checkIsolation();
		await server.query(url, sql);
		const broken = { reason: 'ISOLATION_BROKEN', message: expect.stringMatching(found) };
		await expect(store.checkIsolation()).rejects.toMatchObject(broken);
		await expect(openPgStore(url, deps)).rejects.toMatchObject(broken);
	});

	test('a tenant’s role that takes on the system’s is found', async () => {
		await using own = await PostgresServer.start({ durable: false });
		const url = await own.createDatabase();
		await using store = await openPgStore(url, deps);
		await own.query(url, 'GRANT gpuaas_app_system TO gpuaas_app_tenant');
		await expect(store.checkIsolation()).rejects.toMatchObject({ reason: 'ISOLATION_BROKEN' });
	});

	test('what a replica of an older version writes gets its organization from the leaf', async () => {
		const url = await server.createDatabase();
		await using store = await openPgStore(url, deps);
		const leaf = `convert_to('{"organization":"acme"}', 'UTF8')`;
		await server.query(
			url,
			`INSERT INTO audit_leaves (id, leaf, action, target, at_ms) VALUES ('old', ${leaf}, 'a', 't', 1), ('none', '\\x7b7d', 'a', 't', 1);
			INSERT INTO audit_chain (seq, ord, chain, action, target)
				SELECT row_number() OVER (ORDER BY ord), ord, decode(repeat('00', 32), 'hex'), action, target FROM audit_leaves ORDER BY ord`,
		);
		const rows = await store.read((tx) => tx.audit.list(1, 10));
		expect(rows.map(({ id, organization }) => [id, organization])).toEqual([
			['old', 'acme'],
			['none', null],
		]);
	});
});

describe('a user of the database who may create no roles', () => {
	test('is told what an administrator has to run, and starts after that', async () => {
		await using own = await PostgresServer.start({ durable: false });
		const database = await own.createDatabase();
		await own.query('postgres', 'CREATE ROLE plain LOGIN');
		await own.query(database, 'GRANT CREATE ON SCHEMA public TO plain');
		const url = database.replace('//gpuaas@', '//plain@');
		const refused = await openPgStore(url, deps).then(
			() => undefined,
			(error: unknown) => error as Error,
		);
		expect(refused).toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'DATABASE_ROLES_MISSING' });
		expect(await own.query(database, `select 1 from pg_tables where schemaname = 'public'`)).toEqual([]);
		const [, sql = ''] = /run once: (.*)$/.exec(refused?.message ?? '') ?? [];
		await own.query(database, sql);
		await using store = await openPgStore(url, deps);
		await filled(store);
		expect(await listNodes(store, acme)).toEqual(['node-acme']);
	});

	test('who made the tables before there were roles hands them over', async () => {
		await using own = await PostgresServer.start({ durable: false });
		await own.query('postgres', 'CREATE ROLE former LOGIN CREATEROLE');
		await own.query('postgres', 'CREATE DATABASE former OWNER former');
		const url = own.url('former').replace('//gpuaas@', '//former@');
		await own.query(url, 'CREATE TABLE theirs (id text)');
		await own.query(url, beforeRoles);
		await using store = await openPgStore(url, deps);
		await filled(store);
		expect(await listNodes(store, acme)).toEqual(['node-acme']);
		await store.checkIsolation();
		const owners = await own.query(
			url,
			`select tableowner::text, count(*)::int as tables from pg_tables where schemaname = 'public' group by 1 order by 1`,
		);
		expect(owners).toMatchObject([{ tableowner: 'former', tables: 1 }, { tableowner: 'gpuaas_migrator' }]);
	});
});

/** A database of its own for a new user, on a server whose superuser is `gpuaas`. */
async function databaseOf(own: PostgresServer, user: string, rights = ''): Promise<string> {
	await own.query('postgres', `CREATE ROLE ${user} LOGIN ${rights}`);
	await own.query('postgres', `CREATE DATABASE ${user} OWNER ${user}`);
	return own.url(user).replace('//gpuaas@', `//${user}@`);
}

const startOnce = async (url: string) => (await openPgStore(url, deps))[Symbol.asyncDispose]();

describe('the roles are one installation’s', () => {
	test('so a new one beside another’s user does not start, and the one that was there is told of it', async () => {
		await using own = await PostgresServer.start({ durable: false });
		const url = await databaseOf(own, 'plain', 'CREATEROLE');
		await startOnce(url);
		await own.query(
			'postgres',
			'CREATE ROLE team; CREATE ROLE other LOGIN; GRANT gpuaas_app_system TO team; GRANT team TO other',
		);
		await expect(openPgStore(await own.createDatabase(), deps)).rejects.toMatchObject({
			reason: 'DATABASE_ROLES_SHARED',
			message: expect.stringMatching(/other, plain may take on/),
		});
		const lines: unknown[] = [];
		const log = { ...silentLogger, warn: (...line: unknown[]) => void lines.push(line) };
		await using store = await openPgStore(url, { ...deps, log });
		const found = await store.checkIsolation();
		expect(found).toMatch(/other may take on .*run: REVOKE gpuaas_app_system FROM team\)$/);
		expect(lines).toEqual([[expect.any(String), { found }]]);
		await own.query('postgres', /run: (.*)\)$/.exec(found ?? '')?.[1] ?? '');
		expect(await store.checkIsolation()).toBeUndefined();
	});

	test('whatever the user of another may grant itself: it doesn’t', async () => {
		await using own = await PostgresServer.start({ durable: false });
		const url = await own.createDatabase();
		await startOnce(url);
		const second = await databaseOf(own, 'second', 'CREATEROLE');
		await expect(openPgStore(second, deps)).rejects.toMatchObject({
			reason: 'DATABASE_ROLES_SHARED',
			message: expect.stringMatching(new RegExp(`tables in ${new URL(url).pathname.slice(1)},`)),
		});
		const members = await own.query(url, `select 1 from pg_auth_members where member = 'second'::regrole`);
		expect(members).toEqual([]);
		await using store = await openPgStore(url, deps);
		expect(await store.checkIsolation()).toBeUndefined();
	});

	test('and those of whoever may become its user, and of an earlier user of its own', async () => {
		await using own = await PostgresServer.start({ durable: false });
		const url = await databaseOf(own, 'plain', 'CREATEROLE');
		await own.query(
			'postgres',
			'CREATE ROLE admin LOGIN; GRANT plain TO admin; CREATE ROLE next LOGIN; GRANT plain TO next',
		);
		await startOnce(url);
		for (const user of ['plain', 'next']) {
			if (user === 'next')
				await own.query(
					'postgres',
					'REVOKE plain FROM admin; GRANT gpuaas_migrator, gpuaas_app_system, gpuaas_app_tenant TO next',
				);
			await using store = await openPgStore(url.replace('//plain@', `//${user}@`), deps);
			expect(await store.checkIsolation()).toBeUndefined();
		}
	});
});

describe('a schema named like the user', () => {
	test.each(['plain', '"a plain\\\\"" user"'])('has the tables of %s from the first start', async (user) => {
		await using own = await PostgresServer.start({ durable: false });
		const database = await own.createDatabase();
		await own.query(database, `CREATE ROLE ${user} LOGIN CREATEROLE; CREATE SCHEMA AUTHORIZATION ${user}`);
		const login = encodeURIComponent(user.replace(/^"|"$/g, '').replace('""', '"'));
		for (const options of ['', '&options=-c%20work_mem%3D5MB']) {
			await using store = await openPgStore(`${database.replace('//gpuaas@', `//${login}@`)}${options}`, deps);
			if (options === '') await filled(store);
			expect(await listNodes(store, acme)).toEqual(['node-acme']);
			const sql = `select current_setting('work_mem') as memory`;
			const set = await store.read(function* () {
				return (yield { sql, parameters: [] }).rows[0]?.memory;
			});
			expect(set).toBe(options === '' ? '4MB' : '5MB');
		}
		expect(await own.query(database, `select 1 from pg_tables where schemaname = 'public'`)).toEqual([]);
	});

	test('keeps the rows of before there were roles', async () => {
		await using own = await PostgresServer.start({ durable: false });
		const url = await databaseOf(own, 'plain', 'CREATEROLE');
		// As before 15, when everybody might make tables in `public`.
		await own.query(own.url('plain'), 'CREATE SCHEMA AUTHORIZATION plain; GRANT CREATE ON SCHEMA public TO PUBLIC');
		await own.query(url, beforeRoles);
		await own.query(
			url,
			'INSERT INTO store_check (id, checked_at_ms) VALUES (1, 7) ON CONFLICT (id) DO UPDATE SET checked_at_ms = 7',
		);
		await using store = await openPgStore(url, deps);
		const kept = await store.read(function* () {
			return (yield { sql: 'select checked_at_ms from store_check', parameters: [] }).rows;
		});
		expect(kept).toEqual([{ checked_at_ms: 7 }]);
		await filled(store);
		expect(await listNodes(store, acme)).toEqual(['node-acme']);
		const tables = await own.query(
			own.url('plain'),
			`select distinct schemaname::text as at, tableowner::text as owner
			from pg_tables where tablename = any(array['nodes', 'schema_migrations'])`,
		);
		expect(tables).toEqual([{ at: 'plain', owner: 'gpuaas_migrator' }]);
	});
});
