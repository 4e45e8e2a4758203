import { mkdirSync } from 'node:fs';
import { acquireDirectoryLock } from '../../kit/directory-lock.ts';
import { GpuaasError } from '../../kit/error.ts';
import { processIdentity } from '../../kit/process-identity.ts';
import { sqlitePath } from './open.ts';

/**
 * One process on one SQLite file. SQLite itself lets several write in turns, and two control planes on a file would each hold
 * sessions, keep caches and seal the audit log by hints that never leave their process: a revocation at one is no news to the
 * other. Replicas share a PostgreSQL, which this is not for. Returns what releases it; a process that dies holds nothing.
 */
export function lockDatabase(url: string, instanceId: string): () => void {
	const path = sqlitePath(url);
	const identity = processIdentity(process.pid);
	if (path === undefined || identity === undefined) return () => {};
	const folder = `${path}.lock`;
	mkdirSync(folder, { recursive: true, mode: 0o700 });
	const outcome = acquireDirectoryLock(folder, { ...identity, instanceId });
	if (outcome.kind === 'ACQUIRED') return outcome.release;
	const holder = outcome.by === undefined ? 'another process' : `process ${outcome.by.pid}`;
	throw new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'ALREADY_EXISTS',
		message: `${holder} runs a control plane on ${path}; stop it first, or give this one a data folder of its own. Several replicas need PostgreSQL`,
	});
}
