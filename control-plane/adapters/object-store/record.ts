import { crc32 } from 'node:zlib';
import type { OutputChunk } from '../../app/tasks/output-store.ts';

/**
 * One chunk of output in an attempt's log:
 *
 *   data length u32 | stream u8 (1 stdout, 2 stderr) | offset u64 | dropped bytes u64 | data | CRC-32 of all before u32
 *
 * Integers big-endian. The checksum tells a record that was torn by a crash, or zeros that a file system left, from a
 * whole one.
 */
export const RECORD_HEADER_BYTES = 21;
export const RECORD_OVERHEAD_BYTES = RECORD_HEADER_BYTES + 4;
/** A length above it is not ours: a scan must not allocate what a torn header asks for. */
export const RECORD_DATA_BYTES_MAX = 16 * 1024 * 1024;

export function encodeRecord(chunk: OutputChunk): Buffer {
	const { length } = chunk.data;
	const record = Buffer.allocUnsafe(length + RECORD_OVERHEAD_BYTES);
	record.writeUInt32BE(length, 0);
	record.writeUInt8(chunk.stream === 'stdout' ? 1 : 2, 4);
	record.writeBigUInt64BE(BigInt(chunk.offset), 5);
	record.writeBigUInt64BE(BigInt(chunk.droppedBytes), 13);
	record.set(chunk.data, RECORD_HEADER_BYTES);
	record.writeUInt32BE(crc32(record.subarray(0, RECORD_HEADER_BYTES + length)), RECORD_HEADER_BYTES + length);
	return record;
}

/** The record at the start of `bytes`, or undefined when there is no whole and sound one. */
export function decodeRecord(bytes: Buffer): { readonly chunk: OutputChunk; readonly recordBytes: number } | undefined {
	const length = recordBytesOf(bytes);
	if (length === undefined || bytes.length < length) return undefined;
	if (bytes.readUInt32BE(length - 4) !== crc32(bytes.subarray(0, length - 4))) return undefined;
	const stream = bytes.readUInt8(4);
	if (stream !== 1 && stream !== 2) return undefined;
	return {
		recordBytes: length,
		chunk: {
			offset: Number(bytes.readBigUInt64BE(5)),
			stream: stream === 1 ? 'stdout' : 'stderr',
			droppedBytes: Number(bytes.readBigUInt64BE(13)),
			data: bytes.subarray(RECORD_HEADER_BYTES, length - 4),
		},
	};
}

/** How long the record is whose header starts `bytes`; undefined when the header is cut or absurd. */
export function recordBytesOf(bytes: Buffer): number | undefined {
	if (bytes.length < RECORD_HEADER_BYTES) return undefined;
	const dataBytes = bytes.readUInt32BE(0);
	return dataBytes > RECORD_DATA_BYTES_MAX ? undefined : dataBytes + RECORD_OVERHEAD_BYTES;
}
