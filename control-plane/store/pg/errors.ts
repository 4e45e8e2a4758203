import pg from 'pg';
import type { GpuaasError } from '../../../kit/error.ts';
import { alreadyExists, databaseForbids, diskFull, rowSecurityRefused, storeUnavailable } from '../errors.ts';

/** Two units met: PostgreSQL undid one of them, which may run again from the start. */
export function isConflict(thrown: unknown): boolean {
	return thrown instanceof pg.DatabaseError && (thrown.code === '40001' || thrown.code === '40P01');
}

/** Whether the connection can still be used after this error. */
export function keepsConnection(thrown: unknown): boolean {
	return thrown instanceof pg.DatabaseError && !/^(08|57P|58|XX)/.test(thrown.code ?? '');
}

/** SQLSTATE as the port's errors (PostgreSQL appendix A). What isn't listed is a bug and stays as it is. */
export function pgError(thrown: unknown): unknown {
	if (!(thrown instanceof pg.DatabaseError)) return thrown;
	const code = thrown.code ?? '';
	if (code === '23505') return alreadyExists(thrown);
	if (code === '42501') return forbidden(thrown);
	if (code === '53100') return diskFull(thrown);
	if (isConflict(thrown)) return storeUnavailable('had too many conflicting writes at once', thrown);
	if (code === '25006') return storeUnavailable('is read-only: it may be a standby', thrown);
	if (code === '57014' || code === '55P03') return storeUnavailable('took too long to answer', thrown);
	if (/^(08|28|3D|53|57P|58)/.test(code)) return storeUnavailable('refused the connection or is restarting', thrown);
	return thrown;
}

/** Of a tenant's own statement it is row security; of any other, the database lacks what the platform was given there. */
function forbidden(thrown: pg.DatabaseError): GpuaasError {
	return TENANTS.has(thrown) ? rowSecurityRefused(thrown) : databaseForbids(thrown.message, thrown);
}

const TENANTS = new WeakSet<pg.DatabaseError>();

/** Marks the error of a statement that ran as the tenant's role. */
export function ofTenant(thrown: unknown): void {
	if (thrown instanceof pg.DatabaseError) TENANTS.add(thrown);
}

/** For an error of the driver itself: sockets, time limits, a server that hung up. */
export function connectionLost(cause: unknown): GpuaasError {
	return storeUnavailable('can’t be reached', cause);
}
