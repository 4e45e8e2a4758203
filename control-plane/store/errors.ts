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

export function closed(): GpuaasError {
	return storeUnavailable('was closed because the process is shutting down');
}
