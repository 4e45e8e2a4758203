import type { GpuaasError } from '../../kit/error.ts';

/** Whether a stream ended because the token that it was begun with did: it may be begun again where it was. */
export function hasOutlivedToken(error: GpuaasError): boolean {
	return error.reason === 'ACCESS_TOKEN_EXPIRED';
}
