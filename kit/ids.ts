import { getRandomValues } from 'node:crypto';

/**
 * Randomness as an argument, branded identifiers, and UUIDv7 (RFC 9562): ids sort by creation time, so that
 * a page of a list is a range of the primary key.
 */
export interface Rng {
	/** `length` random bytes; cryptographically strong in production. */
	bytes(length: number): Uint8Array;
	/** Uniform in [0, 1): for jitter only. */
	float(): number;
}

/** A call of the system's generator costs as much for 16 bytes as for 4096, and ids are made all the time. */
const POOL_BYTES = 4096;
const pool = new Uint8Array(POOL_BYTES);
let poolUsed = POOL_BYTES;

function pooledBytes(length: number): Uint8Array {
	if (length > POOL_BYTES / 4) return getRandomValues(new Uint8Array(length));
	if (poolUsed + length > POOL_BYTES) {
		getRandomValues(pool);
		poolUsed = 0;
	}
	const bytes = pool.slice(poolUsed, poolUsed + length);
	// What was given out may be a key, and is kept in one place only.
	pool.fill(0, poolUsed, poolUsed + length);
	poolUsed += length;
	return bytes;
}

export const systemRng: Rng = {
	bytes: pooledBytes,
	float: () => Math.random(),
};

declare const brand: unique symbol;
/** A nominal type: `Brand<string, 'NodeId'>` is made only where a value was checked. */
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

export function hex(bytes: Uint8Array): string {
	let text = '';
	for (const byte of bytes) text += HEX[byte];
	return text;
}

/** UUIDv7 in lower-case text form, from a wall-clock time in ms and 74 random bits. */
export function uuidv7(nowMs: number, rng: Rng): string {
	const bytes = rng.bytes(16);
	const view = new DataView(bytes.buffer, bytes.byteOffset);
	view.setUint16(0, Math.floor(nowMs / 2 ** 32));
	view.setUint32(2, nowMs % 2 ** 32);
	view.setUint8(6, (view.getUint8(6) & 0x0f) | 0x70);
	view.setUint8(8, (view.getUint8(8) & 0x3f) | 0x80);
	const text = hex(bytes);
	return `${text.slice(0, 8)}-${text.slice(8, 12)}-${text.slice(12, 16)}-${text.slice(16, 20)}-${text.slice(20)}`;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Whether `text` is a UUID in the one form that we emit. */
export function isUuid(text: string): boolean {
	return UUID.test(text);
}
