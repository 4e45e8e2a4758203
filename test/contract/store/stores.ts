import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, describe } from 'vitest';
import { openStore } from '../../../control-plane/store/open.ts';
import type { Store } from '../../../control-plane/store/port/store.ts';
import { systemClock } from '../../../kit/clock.ts';
import { systemRng } from '../../../kit/ids.ts';
import { silentLogger } from '../../../kit/log.ts';
import { PostgresServer } from '../../fakes/postgres.ts';

/** One suite, every store: SQLite on a file and a real PostgreSQL. Each test has a database of its own. */
export interface StoreUnderTest extends AsyncDisposable {
	readonly store: Store;
	readonly url: string;
	/** Another handle on the same database: a second replica on PostgreSQL, a restart on SQLite. */
	open(): Promise<Store>;
	/** SQL behind the store's back, on a connection of its own. */
	raw(sql: string): Promise<readonly Record<string, unknown>[]>;
}

export interface StoreKind {
	readonly dialect: Store['dialect'];
	create(): Promise<StoreUnderTest>;
}

const deps = { clock: systemClock, rng: systemRng, log: silentLogger };

export function openAt(url: string): Promise<Store> {
	return openStore(url, deps);
}

export function eachStore(name: string, body: (kind: StoreKind) => void): void {
	describe(`${name}: sqlite`, () => body({ dialect: 'sqlite', create: createSqlite }));
	describe(`${name}: postgres`, () => {
		let server: PostgresServer;
		/** Migrated once, copied for each test. */
		let template: string;
		beforeAll(async () => {
			server = await PostgresServer.start({ durable: false });
			template = await server.createDatabase();
			await (await openAt(template))[Symbol.asyncDispose]();
		});
		afterAll(() => server[Symbol.asyncDispose]());
		body({ dialect: 'postgres', create: () => createPostgres(server, template) });
	});
}

/** A new folder, removed with the disposable. */
export function temporaryFolder(): { readonly path: string } & Disposable {
	const path = mkdtempSync(join(tmpdir(), 'store-'));
	return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

export function rawSqlite(path: string, sql: string): readonly Record<string, unknown>[] {
	const database = new Database(path);
	try {
		const statement = sql.includes(';') ? undefined : database.prepare<[], Record<string, unknown>>(sql);
		if (statement?.reader) return statement.all();
		database.exec(sql);
		return [];
	} finally {
		database.close();
	}
}

async function createSqlite(): Promise<StoreUnderTest> {
	const folder = temporaryFolder();
	const url = join(folder.path, 'store.db');
	return await underTest(
		url,
		async (sql) => rawSqlite(url, sql),
		() => folder[Symbol.dispose](),
	);
}

async function createPostgres(server: PostgresServer, template: string): Promise<StoreUnderTest> {
	const url = await server.createDatabase(template);
	return await underTest(
		url,
		(sql) => server.query(url, sql),
		() => {},
	);
}

async function underTest(url: string, raw: StoreUnderTest['raw'], remove: () => void): Promise<StoreUnderTest> {
	const stack = new AsyncDisposableStack();
	stack.defer(remove);
	const open = async () => stack.use(await openAt(url));
	const store = await open();
	return { store, url, raw, open, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}
