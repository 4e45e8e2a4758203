import { closeSync, openSync } from 'node:fs';
import Database from 'better-sqlite3';
import { assert } from '../../../kit/assert.ts';
import { diskFull, storeUnavailable } from '../errors.ts';
import type { Plan, Result, Row, Statement } from '../port/unit.ts';
import { sqliteError } from './errors.ts';

/**
 * The one connection of a SQLite store: prepares each SQL text once and steps plans synchronously. Durability is WAL
 * with synchronous=FULL: COMMIT returns after fsync. Nothing here awaits, so between two calls nothing is half done.
 */
export type Fault = 'FULL' | 'IOERR';

export interface SqliteOptions {
	/** A file, made when missing; or a database in memory, from what `serialize` gave or empty. */
	readonly at: { readonly path: string } | { readonly memory: Uint8Array | null };
	/** No page is added past this. Default: as large as the disk allows. */
	readonly databaseBytesMax?: number;
	/** The simulation's disk: what goes wrong at the next commit or read, if anything. */
	readonly fault?: (at: 'commit' | 'read') => Fault | undefined;
}

const PAGE_BYTES = 4096;
/** Two processes on one file is a mistake of the operator; waiting blocks this whole process, so it is short. */
const BUSY_TIMEOUT_MS = 2000;
/** The WAL file is cut back to this after a checkpoint. */
const WAL_BYTES_MAX = 64 * 1024 * 1024;
/**
 * A checkpoint runs inside a commit and syncs twice. SQLite's default of 1000 pages is one for every 150 tasks; with four
 * times that, pages that many commits changed are copied once, and a commit that meets it is longer by some 10 ms.
 */
const CHECKPOINT_PAGES = 4000;
/** Statements are made by code and never by input: see tables/compiler.ts. */
const STATEMENTS_MAX = 4000;

export class SqliteConnection {
	readonly #database: Database.Database;
	readonly #statements = new Map<string, Database.Statement<unknown[], Row>>();
	readonly #fault: SqliteOptions['fault'];

	constructor(options: SqliteOptions) {
		this.#fault = options.fault;
		try {
			this.#database = openDatabase(options);
		} catch (error) {
			throw openError(error);
		}
	}

	get inTransaction(): boolean {
		return this.#database.inTransaction;
	}

	/** For migrations: any number of statements, no parameters. */
	exec(sql: string): void {
		this.#database.exec(sql);
	}

	/** For migrations: `work` in one exclusive transaction. */
	exclusively(work: (run: (sql: string, parameters: readonly unknown[]) => readonly Row[]) => void): void {
		try {
			this.#run('BEGIN EXCLUSIVE');
			work((sql, parameters) => this.#execute({ sql, parameters }, false).rows);
			this.#run('COMMIT');
		} catch (error) {
			this.rollback();
			throw sqliteError(error);
		}
	}

	begin(): void {
		this.#run('BEGIN IMMEDIATE');
	}

	commit(): void {
		this.#inject('commit');
		this.#run('COMMIT');
	}

	/** Also after an error upon which SQLite has rolled back by itself. */
	rollback(): void {
		if (this.#database.inTransaction) this.#run('ROLLBACK');
	}

	/** Runs a plan in a savepoint: a throw undoes that plan alone. */
	savepoint<T>(plan: () => Plan<T>): T {
		this.#run('SAVEPOINT unit');
		try {
			const value = this.#step(plan(), false);
			this.#run('RELEASE unit');
			return value;
		} catch (error) {
			// FULL, IOERR and NOMEM may have rolled back the whole transaction: see sqlite.org/lang_transaction.html.
			if (this.#database.inTransaction) {
				this.#run('ROLLBACK TO unit');
				this.#run('RELEASE unit');
			}
			throw sqliteError(error);
		}
	}

	/**
	 * Runs a plan that only reads, on one snapshot: it is stepped to its end before anything else runs on the one
	 * connection that writes, so no transaction is needed for that (one would cost as much as a small read).
	 */
	read<T>(plan: () => Plan<T>): T {
		assert(!this.#database.inTransaction, 'a read inside a unit: use the unit’s own tx');
		try {
			this.#inject('read');
			return this.#step(plan(), true);
		} catch (error) {
			throw sqliteError(error);
		}
	}

	serialize(): Buffer {
		return this.#database.serialize();
	}

	close(): void {
		this.#database.close();
	}

	#step<T>(plan: Plan<T>, readOnly: boolean): T {
		let next = plan.next();
		while (next.done !== true) {
			let result: Result;
			try {
				result = this.#execute(next.value, readOnly);
			} catch (error) {
				// The port's contract: a failed statement ends the unit, `finally` blocks of the plan run, `catch` ones don't.
				plan.return(undefined as never);
				throw error;
			}
			next = plan.next(result);
		}
		return next.value;
	}

	#execute({ sql, parameters }: Statement, readOnly: boolean): Result {
		const statement = this.#prepare(sql);
		assert(!readOnly || statement.readonly, 'a plan given to read() writes: give it to unit()');
		if (statement.reader) {
			const rows = statement.all(...parameters);
			return { rows, changes: statement.readonly ? 0 : rows.length };
		}
		return { rows: [], changes: statement.run(...parameters).changes };
	}

	#run(sql: string): void {
		this.#prepare(sql).run();
	}

	#prepare(sql: string): Database.Statement<unknown[], Row> {
		let statement = this.#statements.get(sql);
		if (statement === undefined) {
			assert(this.#statements.size < STATEMENTS_MAX, 'too many different statements: some SQL text comes from input');
			// The plus changes no value and hides it from the planner: SQLite with STAT4, as we are given it, would else plan
			// again at each execution of a query with a limit or an order (measured: 40 µs in place of 2).
			statement = this.#database.prepare<unknown[], Row>(sql.replaceAll('?', '+?'));
			this.#statements.set(sql, statement);
		}
		return statement;
	}

	#inject(at: 'commit' | 'read'): void {
		const fault = this.#fault?.(at);
		if (fault === 'FULL') throw diskFull();
		if (fault === 'IOERR') throw storeUnavailable('could not be read or written');
	}
}

/** The file is made by node:fs, which has codes of its own. */
function openError(error: unknown): unknown {
	if (!(error instanceof Error && 'syscall' in error && 'code' in error)) return sqliteError(error);
	return error.code === 'ENOSPC' ? diskFull(error) : storeUnavailable('could not be opened', error);
}

function openDatabase({ at, databaseBytesMax }: SqliteOptions): Database.Database {
	let database: Database.Database;
	if ('path' in at) {
		// SQLite would make it readable for everybody; its -wal and -shm files take the mode of this one.
		closeSync(openSync(at.path, 'a', 0o600));
		database = new Database(at.path, { timeout: BUSY_TIMEOUT_MS });
		database.pragma('journal_mode = WAL');
		database.pragma('synchronous = FULL');
		database.pragma(`journal_size_limit = ${WAL_BYTES_MAX}`);
		database.pragma(`wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
	} else {
		database = at.memory === null ? new Database(':memory:') : new Database(Buffer.from(at.memory));
		database.pragma('journal_mode = MEMORY');
	}
	database.pragma('foreign_keys = ON');
	// REPLACE would else delete rows without firing the triggers that keep the audit log append-only.
	database.pragma('recursive_triggers = ON');
	database.pragma('trusted_schema = OFF');
	database.pragma('cache_size = -65536');
	database.pragma('temp_store = MEMORY');
	if (databaseBytesMax !== undefined) database.pragma(`max_page_count = ${Math.floor(databaseBytesMax / PAGE_BYTES)}`);
	return database;
}
