import pg from 'pg';
import { AssertionError, assert } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import type { Logger } from '../../../kit/log.ts';
import type { Plan, Result, Row, Statement } from '../port/unit.ts';
import { connectionLost, isConflict, keepsConnection, pgError } from './errors.ts';

/**
 * Connections to PostgreSQL, and plans run on them. Every statement is prepared once a connection and called by name.
 * A connection that failed is closed, and the next one is opened when it is asked for: so the pool outlives a restart.
 */
export interface PgOptions {
	/** Connections of this replica. Default 16. */
	readonly connectionsMax?: number;
	/** Until a connection is free, and until a new one is open. Default 5 s. */
	readonly connectTimeoutMs?: number;
	/** Default 30 s. */
	readonly statementTimeoutMs?: number;
	/** Plans that run or wait for a connection. Default 2000. */
	readonly plansMax?: number;
}

/** Statements are made by code and never by input: see tables/compiler.ts. */
const STATEMENTS_MAX = 4000;

const INT8_OID = 20;
const JSON_OIDS: readonly number[] = [114, 3802];

function safeInteger(text: string): number {
	const value = Number(text);
	assert(Number.isSafeInteger(value), `the database holds ${text}, which is past 2^53`);
	return value;
}

/** Integers as numbers, and JSON as text, which the tables read: both as SQLite gives them. */
const getTypeParser = ((oid: number, format?: 'text') => {
	if (oid === INT8_OID) return safeInteger;
	return JSON_OIDS.includes(oid) ? (text: string) => text : pg.types.getTypeParser(oid, format);
}) as typeof pg.types.getTypeParser;

export type Begin =
	| 'BEGIN ISOLATION LEVEL SERIALIZABLE'
	| 'BEGIN ISOLATION LEVEL READ COMMITTED'
	| 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY';

export class PgConnections {
	readonly #pool: pg.Pool;
	readonly #names = new Map<string, string>();
	readonly #plansMax: number;
	#plans = 0;

	constructor(url: string, log: Logger, options: PgOptions = {}) {
		this.#plansMax = options.plansMax ?? 2000;
		this.#pool = new pg.Pool({
			...connectionConfig(url),
			max: options.connectionsMax ?? 16,
			connectionTimeoutMillis: options.connectTimeoutMs ?? 5000,
			statement_timeout: options.statementTimeoutMs ?? 30_000,
			idle_in_transaction_session_timeout: 10_000,
			application_name: 'gpuaas',
			keepAlive: true,
			types: { getTypeParser },
		});
		// Without listeners a server that hangs up would end this process. The next use of the connection says so too.
		this.#pool.on('error', (error) => log.warn('an idle database connection was lost', { error }));
		this.#pool.on('connect', (client) => void client.on('error', () => {}));
	}

	/** One transaction. Throws what the plan threw, or the port's errors, or a conflict (`isConflict`) as it is. */
	async transaction<T>(begin: Begin, plan: () => Plan<T>): Promise<T> {
		if (this.#plans >= this.#plansMax) {
			throw connectionLost(new Error(`${this.#plansMax} plans run or wait already, which is the limit`));
		}
		this.#plans += 1;
		try {
			const client = await this.#connect();
			let usable = true;
			try {
				return await this.#run(client, begin, plan);
			} catch (error) {
				usable = await this.#rollback(client, error);
				if (isConflict(error)) throw error;
				throw error instanceof DriverFailure ? connectionLost(error.cause) : pgError(error);
			} finally {
				client.release(!usable);
			}
		} finally {
			this.#plans -= 1;
		}
	}

	async close(): Promise<void> {
		await this.#pool.end();
	}

	async #connect(): Promise<pg.PoolClient> {
		try {
			return await this.#pool.connect();
		} catch (error) {
			throw error instanceof pg.DatabaseError ? pgError(error) : connectionLost(error);
		}
	}

	async #run<T>(client: pg.PoolClient, begin: Begin, plan: () => Plan<T>): Promise<T> {
		await this.#query(client, { sql: begin, parameters: [] });
		const steps = plan();
		let next = steps.next();
		while (next.done !== true) {
			let result: Result;
			try {
				result = await this.#query(client, next.value);
			} catch (error) {
				// The port's contract: a failed statement ends the unit, `finally` blocks of the plan run, `catch` ones don't.
				steps.return(undefined as never);
				throw error;
			}
			next = steps.next(result);
		}
		await this.#query(client, { sql: 'COMMIT', parameters: [] });
		return next.value;
	}

	/** Whether the connection can be used again. */
	async #rollback(client: pg.PoolClient, error: unknown): Promise<boolean> {
		if (error instanceof DriverFailure) return false;
		if (error instanceof pg.DatabaseError && !keepsConnection(error)) return false;
		try {
			await this.#query(client, { sql: 'ROLLBACK', parameters: [] });
			return true;
		} catch {
			return false;
		}
	}

	async #query(client: pg.PoolClient, { sql, parameters }: Statement): Promise<Result> {
		try {
			const answer = await client.query<Row>({ name: this.#name(sql), text: sql, values: [...parameters] });
			return { rows: answer.rows, changes: answer.rowCount ?? 0 };
		} catch (error) {
			throw error instanceof pg.DatabaseError ? error : new DriverFailure(error);
		}
	}

	#name(sql: string): string {
		let name = this.#names.get(sql);
		if (name === undefined) {
			assert(this.#names.size < STATEMENTS_MAX, 'too many different statements: some SQL text comes from input');
			name = `gpuaas_${this.#names.size + 1}`;
			this.#names.set(sql, name);
		}
		return name;
	}
}

/** The driver could not tell whether the server did what it was asked to. */
class DriverFailure extends Error {
	override readonly name = 'DriverFailure';

	constructor(cause: unknown) {
		super('the connection to the database failed', { cause });
	}
}

/** One connection outside the pool, for migrations. */
export async function withConnection<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
	const client = new pg.Client({
		...connectionConfig(url),
		connectionTimeoutMillis: 5000,
		application_name: 'gpuaas-migrate',
		types: { getTypeParser },
	});
	client.on('error', () => {});
	try {
		await client.connect();
		return await work(client);
	} catch (error) {
		if (error instanceof GpuaasError || error instanceof AssertionError) throw error;
		throw error instanceof pg.DatabaseError ? pgError(error) : connectionLost(error);
	} finally {
		await client.end().catch(() => {});
	}
}

function connectionConfig(url: string): pg.ClientConfig {
	try {
		// Only a syntax check: the driver's own message would repeat the URL, and with it the password.
		new URL(url.replace('@/', '@localhost/').replace(':///', '://localhost/'));
	} catch {
		throw new GpuaasError({
			code: 'INVALID_ARGUMENT',
			reason: 'CONFIG_INVALID',
			message:
				'the URL of the PostgreSQL store can’t be read; write postgres://user@host/database, and percent-encode the password',
		});
	}
	return { connectionString: url };
}
