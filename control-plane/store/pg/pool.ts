import pg from 'pg';
import { AssertionError, assert } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import type { Logger } from '../../../kit/log.ts';
import type { Tenancy } from '../port/store.ts';
import type { Plan, Result, Row, Statement } from '../port/unit.ts';
import { connectionLost, isConflict, keepsConnection, ofTenant, pgError } from './errors.ts';
import { SYSTEM_ROLE, TENANT_ROLE } from './roles.ts';

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
	/** False only in tests that prove the application's own filter: tenants' plans then run as the platform's. */
	readonly rowSecurity?: boolean;
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

export interface Begin {
	readonly level: 'SERIALIZABLE' | 'READ COMMITTED' | 'REPEATABLE READ READ ONLY';
	/** Undefined: the platform's own work. */
	readonly tenancy: Tenancy | undefined;
}

export class PgConnections {
	readonly #pool: pg.Pool;
	/** By role and text: a statement is planned anew whenever another role comes to it. */
	readonly #names = { [SYSTEM_ROLE]: new Map<string, string>(), [TENANT_ROLE]: new Map<string, string>() };
	readonly #plansMax: number;
	readonly #rowSecurity: boolean;
	#plans = 0;

	/** `schema` has the tables, whatever the user's own path says. */
	constructor(url: string, schema: string, log: Logger, options: PgOptions = {}) {
		this.#plansMax = options.plansMax ?? 2000;
		this.#rowSecurity = options.rowSecurity ?? true;
		this.#pool = new pg.Pool({
			...connectionConfig(withOptions(url, schema)),
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
		const tenancy = this.#rowSecurity ? begin.tenancy : undefined;
		await this.#send(client, beginText(begin.level, tenancy));
		const own: Role = tenancy === undefined ? SYSTEM_ROLE : TENANT_ROLE;
		let role = own;
		const steps = plan();
		let next = steps.next();
		while (next.done !== true) {
			let result: Result;
			try {
				const needed = next.value.asPlatform === true ? SYSTEM_ROLE : own;
				if (needed !== role) await this.#send(client, `SET LOCAL ROLE ${needed}`);
				role = needed;
				result = await this.#query(client, role, next.value);
			} catch (error) {
				// The port's contract: a failed statement ends the unit, `finally` blocks of the plan run, `catch` ones don't.
				steps.return(undefined as never);
				if (role === TENANT_ROLE) ofTenant(error);
				throw error;
			}
			next = steps.next(result);
		}
		await this.#send(client, 'COMMIT');
		return next.value;
	}

	/** Whether the connection can be used again. */
	async #rollback(client: pg.PoolClient, error: unknown): Promise<boolean> {
		if (error instanceof DriverFailure) return false;
		if (error instanceof pg.DatabaseError && !keepsConnection(error)) return false;
		try {
			await this.#send(client, 'ROLLBACK');
			return true;
		} catch {
			return false;
		}
	}

	async #query(client: pg.PoolClient, role: Role, { sql, parameters }: Statement): Promise<Result> {
		try {
			const answer = await client.query<Row>({ name: this.#name(role, sql), text: sql, values: [...parameters] });
			return { rows: answer.rows, changes: answer.rowCount ?? 0 };
		} catch (error) {
			throw error instanceof pg.DatabaseError ? error : new DriverFailure(error);
		}
	}

	/** What only steers the transaction: one round trip, several statements if need be. */
	async #send(client: pg.PoolClient, text: string): Promise<void> {
		try {
			await client.query(text);
		} catch (error) {
			throw error instanceof pg.DatabaseError ? error : new DriverFailure(error);
		}
	}

	#name(role: Role, sql: string): string {
		const names = this.#names[role];
		let name = names.get(sql);
		if (name === undefined) {
			assert(names.size < STATEMENTS_MAX, 'too many different statements: some SQL text comes from input');
			name = `${role}_${names.size + 1}`;
			names.set(sql, name);
		}
		return name;
	}
}

type Role = typeof SYSTEM_ROLE | typeof TENANT_ROLE;

/** Role and settings come with BEGIN, in the same round trip, and end with the transaction: the pool keeps none of them. */
function beginText(level: Begin['level'], tenancy: Tenancy | undefined): string {
	const begin = `BEGIN ISOLATION LEVEL ${level}`;
	if (tenancy === undefined) return `${begin}; SET LOCAL ROLE ${SYSTEM_ROLE}`;
	for (const id of tenancy.organizations) assert(ORGANIZATION_ID.test(id), 'an organization has an id of its own form');
	const settings = [
		['gpuaas.organization', tenancy.organizations.join(',')],
		['gpuaas.principal', tenancy.principalId],
	].map(([name = '', value = '']) => `set_config('${name}', ${pg.escapeLiteral(value)}, true)`);
	return `${begin}; SET LOCAL ROLE ${TENANT_ROLE}; SELECT ${settings.join(', ')}`;
}

/** Without the comma that parts them. */
const ORGANIZATION_ID = /^[a-z0-9][a-z0-9-]*$/;

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

/** Whatever ran outside of a transaction would be a tenant of no organization, who sees nothing. */
function withOptions(url: string, schema: string): string {
	// Spaces part options.
	const path = pg.escapeIdentifier(schema).replace(/[\\\s]/g, '\\$&');
	const own = encodeURIComponent(`-c role=${TENANT_ROLE} -c search_path=${path}`);
	// The driver takes the URL's own options and no others.
	if (/[?&]options=/.test(url)) return url.replace(/[?&]options=[^&]*/, (theirs) => `${theirs}%20${own}`);
	return `${url}${url.includes('?') ? '&' : '?'}options=${own}`;
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
