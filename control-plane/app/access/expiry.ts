import { type Timestamp, timestampMs } from '@bufbuild/protobuf/wkt';
import { GpuaasError } from '../../../kit/error.ts';

/** Null for none. Throws EXPIRY_INVALID for one that is over. */
export function expiryOf(given: Timestamp | undefined, nowMs: number): number | null {
	if (given === undefined) return null;
	const atMs = Math.floor(timestampMs(given));
	if (Number.isSafeInteger(atMs) && atMs > nowMs) return atMs;
	throw new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'EXPIRY_INVALID',
		message: 'the end must be a time to come; to end something now, delete it',
	});
}
