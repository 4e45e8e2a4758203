import { GpuaasError } from '../../kit/error.ts';

/** What a store says when it can't do its work: the same from every driver. */
export function storeUnavailable(what: string, cause?: unknown): GpuaasError {
	return new GpuaasError({
		code: 'UNAVAILABLE',
		reason: 'STORE_UNAVAILABLE',
		message: `the database ${what}; nothing was acknowledged, try again`,
		...(cause === undefined ? {} : { cause }),
	});
}

export function diskFull(cause?: unknown): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'DISK_FULL',
		message: 'the disk of the database is full, so nothing can be written; free space on it, then try again',
		...(cause === undefined ? {} : { cause }),
	});
}

export function alreadyExists(cause: unknown): GpuaasError {
	return new GpuaasError({
		code: 'ALREADY_EXISTS',
		reason: 'ALREADY_EXISTS',
		message: 'such an object exists already, so nothing was written; read it, or use another name or id',
		cause,
	});
}

/** A statement of a tenant's unit reached for what is not that tenant's, past every check above: a bug, and stopped. */
export function rowSecurityRefused(cause: unknown): GpuaasError {
	return new GpuaasError({
		code: 'PERMISSION_DENIED',
		reason: 'ROW_SECURITY_REFUSED',
		message:
			'the database keeps organizations apart and refused what this call came to; nothing was done. Whoever may see everything here should look at the log of the control plane',
		cause,
	});
}

/** The platform's own statement met a right that it should have. */
export function databaseForbids(why: string, cause: unknown): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'DATABASE_ROLES_MISSING',
		message: `the database refused the control plane's own work: ${why}. Its tables belong to gpuaas_migrator and are granted to gpuaas_app_system and gpuaas_app_tenant; a dump that was restored without owners or grants (-O, -x) is restored anew with them`,
		cause,
	});
}

export function closed(): GpuaasError {
	return storeUnavailable('was closed because the process is shutting down');
}
