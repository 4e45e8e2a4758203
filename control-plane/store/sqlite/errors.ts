import Database from 'better-sqlite3';
import { alreadyExists, diskFull, storeUnavailable } from '../errors.ts';

/** SQLite's result codes as the port's errors (sqlite.org/rescode.html). What isn't listed is a bug and stays as it is. */
export function sqliteError(thrown: unknown): unknown {
	if (!(thrown instanceof Database.SqliteError)) return thrown;
	const { code } = thrown;
	if (code === 'SQLITE_CONSTRAINT_UNIQUE' || code === 'SQLITE_CONSTRAINT_PRIMARYKEY') return alreadyExists(thrown);
	if (code === 'SQLITE_FULL') return diskFull(thrown);
	if (code.startsWith('SQLITE_IOERR')) return storeUnavailable('could not be read or written', thrown);
	if (code.startsWith('SQLITE_BUSY') || code.startsWith('SQLITE_LOCKED')) {
		return storeUnavailable('is locked by another process', thrown);
	}
	if (code.startsWith('SQLITE_CANTOPEN')) return storeUnavailable('could not be opened', thrown);
	if (code.startsWith('SQLITE_READONLY')) return storeUnavailable('is read-only', thrown);
	if (code.startsWith('SQLITE_CORRUPT') || code === 'SQLITE_NOTADB') {
		return storeUnavailable('is damaged: restore it from a backup', thrown);
	}
	if (code === 'SQLITE_NOMEM') return storeUnavailable('ran out of memory', thrown);
	return thrown;
}
