import { createHash } from 'node:crypto';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import pg from 'pg';
import { openStore } from '../../control-plane/store/open.ts';
import { openPgStore } from '../../control-plane/store/pg/store.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import type { PostgresServer } from '../fakes/postgres.ts';
import { ApiWorld } from '../integration/api-world.ts';
import { BlindPolicies } from './blind.ts';

/**
 * The compositions that isolation is proven in: each layer alone, both as in production, and SQLite, which has only the
 * application's filter. The filter is real TLS sockets down to a real database in each.
 */
export interface Mode {
	readonly name: string;
	readonly store: 'sqlite' | 'postgres';
	readonly applicationFilter: boolean;
	readonly rowSecurity: boolean;
}

export const MODES: readonly Mode[] = [
	{ name: 'sqlite', store: 'sqlite', applicationFilter: true, rowSecurity: false },
	{ name: 'postgres', store: 'postgres', applicationFilter: true, rowSecurity: true },
	{ name: 'postgres, row security alone', store: 'postgres', applicationFilter: false, rowSecurity: true },
	{ name: 'postgres, application filter alone', store: 'postgres', applicationFilter: true, rowSecurity: false },
];

/** Neither: what the matrix has to find open, or it would find nothing. */
export const OPEN: Mode = {
	name: 'postgres, nothing',
	store: 'postgres',
	applicationFilter: false,
	rowSecurity: false,
};

/** A control plane's API in one of the modes, and an eye on its tables that no filter holds. */
export interface OpenMode extends AsyncDisposable {
	readonly applicationFilter: boolean;
	readonly world: ApiWorld;
	/** By table: what it holds. Without the audit log, when a key was last used, and what readiness writes. */
	tables(): Promise<ReadonlyMap<string, string>>;
}

const NOT_COMPARED = /^(audit_|sqlite_|(credential_uses|schema_migrations|store_check)$)/;
/** Nor about how many terminals one person may have: the owner has a sample of one for each RPC. */
const LIMITS = { terminalsOpenPerPersonMax: 100_000 };
/** Windows of refusals end where the matrix says so, however slow the machine is. */
const refusalsClock = new VirtualClock();
const MANY = { perSecond: 1e6, burst: 1e6 };
/** Nothing here is about rates. */
const API = {
	connectionsPerAddressMax: 2000,
	perAddress: MANY,
	perPrincipal: { read: MANY, write: MANY, stream: MANY },
};

export async function openMode(mode: Mode, server: PostgresServer): Promise<OpenMode> {
	await using close = new AsyncDisposableStack();
	const policies = mode.applicationFilter ? {} : { policies: new BlindPolicies() };
	if (mode.store === 'sqlite') {
		const world = close.use(await ApiWorld.start({ api: API, limits: LIMITS, refusalsClock, ...policies }));
		const database = new Database(join(world.folder, 'store.db'), { readonly: true });
		close.defer(() => void database.close());
		return closing(mode, close.move(), world, async () => sqliteTables(database));
	}
	const url = await server.createDatabase();
	const { rowSecurity } = mode;
	const open: NonNullable<Parameters<typeof ApiWorld.start>[0]>['openStore'] = (deps) =>
		rowSecurity ? openStore(url, deps) : openPgStore(url, deps, { rowSecurity });
	const world = close.use(
		await ApiWorld.start({ api: API, limits: LIMITS, refusalsClock, openStore: open, ...policies }),
	);
	const client = new pg.Client({ connectionString: url });
	client.on('error', () => {});
	await client.connect();
	close.defer(() => client.end());
	const sql = await pgTablesSql(client);
	return closing(mode, close.move(), world, async () => {
		const { rows } = await client.query<{ readonly name: string; readonly held: string }>(sql);
		return new Map(rows.map(({ name, held }) => [name, held]));
	});
}

function closing(
	{ applicationFilter }: Mode,
	stack: AsyncDisposableStack,
	world: ApiWorld,
	tables: OpenMode['tables'],
): OpenMode {
	return { applicationFilter, world, tables, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

function sqliteTables(database: Database.Database): ReadonlyMap<string, string> {
	const names = database.prepare<[], { name: string }>(`select name from sqlite_schema where type = 'table'`).all();
	const compared = names.map(({ name }) => name).filter((name) => !NOT_COMPARED.test(name));
	return new Map(
		compared.map((name) => {
			const hash = createHash('sha256');
			for (const row of database.prepare(`select * from ${name}`).raw().iterate()) hash.update(JSON.stringify(row));
			return [name, hash.digest('hex')];
		}),
	);
}

async function pgTablesSql(client: pg.Client): Promise<string> {
	const { rows } = await client.query<{ readonly name: string }>(
		`select tablename::text as name from pg_tables where schemaname = 'public'`,
	);
	return rows
		.filter(({ name }) => !NOT_COMPARED.test(name))
		.map(
			({ name }) => `select '${name}' as name, count(*) || ' ' ||
				md5(coalesce(string_agg(md5(t::text), '' order by md5(t::text)), '')) as held from ${name} as t`,
		)
		.join(' union all ');
}
