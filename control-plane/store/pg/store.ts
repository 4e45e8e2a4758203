import { sleep } from '../../../kit/clock.ts';
import { Backoff } from '../../../kit/retry.ts';
import type { StoreDeps } from '../deps.ts';
import { closed } from '../errors.ts';
import type { ReadOptions, Store, Tx, UnitOptions } from '../port/store.ts';
import type { Plan } from '../port/unit.ts';
import { Compiler } from '../tables/compiler.ts';
import { createTx } from '../tables/tx.ts';
import { pgAudit } from './audit.ts';
import { pgClaim } from './claim.ts';
import { isConflict, pgError } from './errors.ts';
import { isolationBroken, shared, unisolated } from './isolation.ts';
import { migratePg } from './migrate.ts';
import { PgConnections, type PgOptions } from './pool.ts';

/**
 * The store on PostgreSQL, for more than one replica. A unit is one transaction, READ COMMITTED, in which rows read by
 * their key are locked (see UnitOptions; SERIALIZABLE for all of them was measured: with 64 callers most units were
 * undone again and again). A plan that loses a conflict or a deadlock runs again from its start. Owns pg. Made by
 * store/open.ts.
 */
function txOf(compiler: Compiler): Tx {
	return createTx(compiler, { audit: pgAudit(compiler), claim: pgClaim });
}

const readTx = txOf(new Compiler('postgres'));
const unitTx = txOf(new Compiler('postgres', true));

/** Conflicts are short, so many quick tries cost less than telling the caller to come back. */
const ATTEMPTS_MAX = 20;
const BACKOFF = { baseMs: 2, maxMs: 100, floorMs: 0.5 };

/** Throws ISOLATION_BROKEN where tenants would not be kept apart. */
export async function openPgStore(url: string, deps: StoreDeps, options: PgOptions = {}): Promise<PgStore> {
	const schema = await migratePg(url, deps.clock);
	const store = new PgStore(new PgConnections(url, schema, deps.log, options), deps);
	try {
		const found = await store.checkIsolation();
		if (found !== undefined) deps.log.warn('the roles of row security are not this installation’s alone', { found });
		return store;
	} catch (error) {
		await store[Symbol.asyncDispose]();
		throw error;
	}
}

export class PgStore implements Store {
	readonly dialect = 'postgres';
	readonly #connections: PgConnections;
	readonly #deps: StoreDeps;
	#nowMs = 0;
	#closed = false;

	constructor(connections: PgConnections, deps: StoreDeps) {
		this.#connections = connections;
		this.#deps = deps;
	}

	async unit<T>(plan: (tx: Tx) => Plan<T>, options: UnitOptions = {}): Promise<T> {
		const level = options.isolation === 'serializable' ? 'SERIALIZABLE' : 'READ COMMITTED';
		const backoff = new Backoff(BACKOFF, this.#deps.rng);
		for (let attempt = 1; ; attempt += 1) {
			if (this.#closed) throw closed();
			try {
				return await this.#connections.transaction({ level, tenancy: options.tenancy }, () => plan(unitTx));
			} catch (error) {
				if (!isConflict(error)) throw error;
				if (attempt >= ATTEMPTS_MAX) throw pgError(error);
				await sleep(this.#deps.clock, backoff.nextMs());
			}
		}
	}

	async read<T>(plan: (tx: Tx) => Plan<T>, { tenancy }: ReadOptions = {}): Promise<T> {
		if (this.#closed) throw closed();
		return await this.#connections.transaction({ level: 'REPEATABLE READ READ ONLY', tenancy }, () => plan(readTx));
	}

	async check(): Promise<void> {
		const checkedAtMs = this.#deps.clock.now();
		const plan = function* (): Plan<void> {
			yield { sql: 'update store_check set checked_at_ms = $1 where id = 1', parameters: [checkedAtMs] };
		};
		await this.unit(plan);
	}

	async checkIsolation(): Promise<string | undefined> {
		const open = await this.read(unisolated);
		if (open.length > 0) throw isolationBroken(open);
		return await this.read(shared);
	}

	async now(): Promise<number> {
		const nowMs = await this.read(function* () {
			const sql = 'select floor(extract(epoch from clock_timestamp()) * 1000)::bigint as now';
			return Number((yield { sql, parameters: [] }).rows[0]?.now);
		});
		this.#nowMs = Math.max(this.#nowMs, nowMs);
		return this.#nowMs;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		if (this.#closed) return;
		this.#closed = true;
		await this.#connections.close();
	}
}
