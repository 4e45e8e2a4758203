import { GpuaasError } from '../../../kit/error.ts';

export function etagOf(row: { readonly version: number }): string {
	return `v${row.version}`;
}

/** Throws ABORTED when the etag is not that of the row as it is now. */
export function assertEtag(etag: string, row: { readonly version: number }, what: string): void {
	if (etag === etagOf(row)) return;
	throw new GpuaasError({
		code: 'ABORTED',
		reason: 'ETAG_MISMATCH',
		message: `the ${what} changed since it was read, so nothing was changed; get it again and send its new etag`,
	});
}
