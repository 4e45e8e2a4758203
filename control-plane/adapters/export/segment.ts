import { crc32 } from 'node:zlib';

/**
 * One record in a segment of the push queue: length u32 | CRC-32 of the data u32 | data, big-endian. A crash leaves at
 * most one torn record, at the end; the checksum tells it from a whole one.
 */
export const RECORD_HEADER_BYTES = 8;
/** A length above it is not ours: a scan must not allocate what a torn header asks for. */
export const RECORD_BYTES_MAX = 16 * 1024 * 1024;

export function encodeRecord(data: Uint8Array): Buffer {
	const record = Buffer.allocUnsafe(RECORD_HEADER_BYTES + data.length);
	record.writeUInt32BE(data.length, 0);
	record.writeUInt32BE(crc32(data), 4);
	record.set(data, RECORD_HEADER_BYTES);
	return record;
}

/** The record that starts at `at`, or undefined when there is no whole and sound one. */
export function decodeRecord(
	bytes: Buffer,
	at: number,
): { readonly data: Buffer; readonly nextAt: number } | undefined {
	if (bytes.length < at + RECORD_HEADER_BYTES) return undefined;
	const length = bytes.readUInt32BE(at);
	const nextAt = at + RECORD_HEADER_BYTES + length;
	if (length > RECORD_BYTES_MAX || nextAt > bytes.length) return undefined;
	const data = bytes.subarray(at + RECORD_HEADER_BYTES, nextAt);
	return crc32(data) === bytes.readUInt32BE(at + 4) ? { data, nextAt } : undefined;
}
