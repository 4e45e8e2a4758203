import { GpuaasError } from '../../kit/error.ts';
import type { StoreDeps } from './deps.ts';
import type { Store } from './port/store.ts';

/**
 * The only truth of the control plane: port/ is what the rest of the program sees, tables/ is the SQL that both
 * dialects share, sqlite/ and pg/ run it, migrations/ makes the schema. Nothing outside this folder knows which
 * dialect it runs on. Called by main.ts.
 *
 * Opens and migrates: `sqlite:/path`, `/path` or `postgres://user@host/database`. Throws CONFIG_INVALID for anything
 * else, STORE_UNAVAILABLE, SCHEMA_TOO_NEW, SCHEMA_CHANGED. No message holds the URL: it may hold a password.
 */
export async function openStore(url: string, deps: StoreDeps): Promise<Store> {
	// Imported when used: a control plane on one dialect doesn't load the other's driver.
	if (isPostgres(url)) {
		const { openPgStore } = await import('./pg/store.ts');
		return await openPgStore(url, deps);
	}
	const path = sqlitePath(url);
	if (path === undefined) {
		throw new GpuaasError({
			code: 'INVALID_ARGUMENT',
			reason: 'CONFIG_INVALID',
			message: 'the store must be an absolute path, sqlite:/path, or postgres://user@host/database',
		});
	}
	const { SqliteStore } = await import('./sqlite/store.ts');
	return new SqliteStore({ at: { path }, clock: deps.clock });
}

function isPostgres(url: string): boolean {
	return /^postgres(ql)?:\/\//.test(url);
}

/** Undefined for a database that is no file, and for what is no database. */
export function sqlitePath(url: string): string | undefined {
	if (isPostgres(url)) return undefined;
	const path = url.startsWith('sqlite:') ? url.slice('sqlite:'.length) : url;
	return path.startsWith('/') ? path : undefined;
}

/** What may be logged about where the store is: never the password, nor anything else of a URL's query. */
export function storeName(url: string): string {
	if (!isPostgres(url)) return url.startsWith('sqlite:') ? url : `sqlite:${url}`;
	try {
		const { hostname, pathname } = new URL(url);
		return `postgres://${hostname}${pathname}`;
	} catch {
		return 'postgres';
	}
}
