import type { Clock } from '../../../kit/clock.ts';
import { closed } from '../errors.ts';
import type { Store, Tx } from '../port/store.ts';
import type { Plan } from '../port/unit.ts';
import { Compiler } from '../tables/compiler.ts';
import { createTx } from '../tables/tx.ts';
import { sqliteAudit } from './audit.ts';
import { sqliteClaim } from './claim.ts';
import { SqliteConnection, type SqliteOptions } from './connection.ts';
import { GroupCommit, type GroupCommitOptions } from './group-commit.ts';
import { migrateSqlite } from './migrate.ts';

/**
 * The store on one SQLite file: one process, one connection, group commit. Owns better-sqlite3 together with the
 * agent's journal. Invariant: a promise that resolved is on the disk. Made by store/open.ts, and by the simulation in
 * memory, which crashes it with `crash` and opens what that gives.
 */
export interface SqliteStoreOptions extends SqliteOptions, GroupCommitOptions {
	readonly clock: Clock;
}

/** Statements are compiled once for all stores of a process. */
const compiler = new Compiler('sqlite');
const tx: Tx = createTx(compiler, {
	audit: sqliteAudit(compiler),
	claim: sqliteClaim(compiler),
});

export class SqliteStore implements Store {
	readonly dialect = 'sqlite';
	readonly #clock: Clock;
	readonly #connection: SqliteConnection;
	readonly #commits: GroupCommit;
	#nowMs = 0;
	#closed = false;

	/** Opens and migrates. Throws STORE_UNAVAILABLE, DISK_FULL, SCHEMA_TOO_NEW or SCHEMA_CHANGED. */
	constructor(options: SqliteStoreOptions) {
		this.#clock = options.clock;
		this.#connection = new SqliteConnection(options);
		try {
			migrateSqlite(this.#connection, options.clock);
		} catch (error) {
			this.#connection.close();
			throw error;
		}
		this.#commits = new GroupCommit(this.#connection, options.clock, options);
	}

	unit<T>(plan: (tx: Tx) => Plan<T>): Promise<T> {
		return this.#commits.unit(() => plan(tx));
	}

	/** At once: between two commits everything that is there is committed. */
	read<T>(plan: (tx: Tx) => Plan<T>): Promise<T> {
		if (this.#closed) return Promise.reject(closed());
		try {
			return Promise.resolve(this.#connection.read(() => plan(tx)));
		} catch (error) {
			return Promise.reject(error);
		}
	}

	check(): Promise<void> {
		const checkedAtMs = this.#clock.now();
		return this.#commits.unit(function* () {
			yield { sql: 'update store_check set checked_at_ms = ? where id = 1', parameters: [checkedAtMs] };
		});
	}

	/** One process on one file: whose rows a plan may see is the application's filter alone, which needs no second look. */
	checkIsolation(): Promise<undefined> {
		return Promise.resolve(undefined);
	}

	now(): Promise<number> {
		this.#nowMs = Math.max(this.#nowMs, this.#clock.now());
		return Promise.resolve(this.#nowMs);
	}

	/** The last commit, as bytes that `memory` takes. */
	snapshot(): Uint8Array {
		return this.#connection.serialize();
	}

	/** Drops everything that is not committed, as kill -9 would; promises that wait never settle. */
	crash(): Uint8Array {
		const bytes = this.snapshot();
		this.#closed = true;
		this.#commits.abandon();
		this.#connection.close();
		return bytes;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		if (this.#closed) return;
		this.#closed = true;
		this.#commits.close();
		this.#connection.close();
	}
}
