import { closeSync, existsSync, openSync, renameSync, statSync } from 'node:fs';
import Database from 'better-sqlite3';
import type { RollupChunk, Rollups } from '../port/rollups.ts';
import { sqliteError } from './errors.ts';

/**
 * Rollups in a SQLite file of their own. Commits are not synced one by one: a power failure loses the last seconds,
 * which the agents' rings still have. A file that isn't ours or is broken is moved aside and a new one begun, because
 * history must never keep a control plane from starting.
 */
export interface RollupFileOptions {
	readonly path: string;
	/** A file was moved aside: where to, and why. */
	onBroken?(asidePath: string, error: unknown): void;
}

const SCHEMA_NUMBER = 1;
const SCHEMA = `
create table chunks (
  id integer primary key,
  node_id text not null,
  from_ms integer not null,
  until_ms integer not null,
  blob blob not null
) strict;
create index chunks_of_node on chunks (node_id, from_ms);
pragma user_version = ${SCHEMA_NUMBER};`;
/** Of one trim: some milliseconds, so that no request waits for it. */
const TRIM_CHUNKS = 500;
const CACHE_KIB = 16 * 1024;

export class RollupFile implements Rollups {
	readonly #database: Database.Database;
	readonly #append: (chunks: readonly RollupChunk[]) => void;
	readonly #read: Database.Statement<[string, number, number, number], RollupChunk>;
	readonly #trimOld: Database.Statement<[number]>;
	readonly #trimAny: Database.Statement<[]>;

	constructor(options: RollupFileOptions) {
		this.#database = openOrBegin(options);
		const insert = this.#database.prepare<[string, number, number, Uint8Array]>(
			'insert into chunks (node_id, from_ms, until_ms, blob) values (?, ?, ?, ?)',
		);
		this.#append = this.#database.transaction((chunks: readonly RollupChunk[]) => {
			for (const { nodeId, fromMs, untilMs, blob } of chunks) insert.run(nodeId, fromMs, untilMs, blob);
		});
		this.#read = this.#database.prepare(
			`select node_id as nodeId, from_ms as fromMs, until_ms as untilMs, blob from chunks
			 where node_id = ? and from_ms < ? and until_ms > ? order by from_ms limit ?`,
		);
		// Ids rise with time: the oldest are the lowest, so no index on times is needed.
		const oldest = `id in (select id from chunks order by id limit ${TRIM_CHUNKS})`;
		this.#trimOld = this.#database.prepare(`delete from chunks where ${oldest} and until_ms < ?`);
		this.#trimAny = this.#database.prepare(`delete from chunks where ${oldest}`);
	}

	async append(chunks: readonly RollupChunk[]): Promise<void> {
		guarded(() => this.#append(chunks));
	}

	async read(nodeId: string, fromMs: number, untilMs: number, chunksMax: number): Promise<readonly RollupChunk[]> {
		return guarded(() => this.#read.all(nodeId, untilMs, fromMs, chunksMax));
	}

	async trim(beforeMs: number, bytesMax: number): Promise<number> {
		return guarded(() => {
			const { changes } = this.#trimOld.run(beforeMs);
			return this.#usedBytes() > bytesMax ? changes + this.#trimAny.run().changes : changes;
		});
	}

	async bytes(): Promise<number> {
		return this.#usedBytes();
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.#database.close();
	}

	#usedBytes(): number {
		const number = (name: string) => Number(this.#database.pragma(name, { simple: true }));
		return (number('page_count') - number('freelist_count')) * number('page_size');
	}
}

function guarded<T>(work: () => T): T {
	try {
		return work();
	} catch (error) {
		throw sqliteError(error);
	}
}

function openOrBegin({ path, onBroken }: RollupFileOptions): Database.Database {
	try {
		return open(path);
	} catch (error) {
		if (!existsSync(path)) throw sqliteError(error);
		const aside = `${path}.broken`;
		for (const suffix of ['', '-wal', '-shm']) if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix);
		onBroken?.(aside, error);
		return guarded(() => open(path));
	}
}

function open(path: string): Database.Database {
	closeSync(openSync(path, 'a', 0o600));
	const database = new Database(path, { timeout: 2000 });
	try {
		database.pragma('journal_mode = WAL');
		database.pragma('synchronous = NORMAL');
		database.pragma('trusted_schema = OFF');
		database.pragma(`cache_size = -${CACHE_KIB}`);
		const version = Number(database.pragma('user_version', { simple: true }));
		if (version === 0) database.exec(SCHEMA);
		else if (version !== SCHEMA_NUMBER) throw new Error(`history of schema ${version}, not ${SCHEMA_NUMBER}`);
		// A whole check would read gigabytes; a file that was cut is the damage that a full disk or a bad copy leaves.
		database.pragma('wal_checkpoint(TRUNCATE)');
		const pages = Number(database.pragma('page_count', { simple: true }));
		const bytes = pages * Number(database.pragma('page_size', { simple: true }));
		if (statSync(path).size < bytes) throw new Error(`the file is shorter than its ${pages} pages`);
	} catch (error) {
		database.close();
		throw error;
	}
	return database;
}
