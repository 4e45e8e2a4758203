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
const CHECKSUM_BYTES = 4;
export const RECORD_OVERHEAD_BYTES = RECORD_HEADER_BYTES + CHECKSUM_BYTES;
/** A length above it is not ours: a scan must not allocate what a torn header asks for. */
export const RECORD_DATA_BYTES_MAX = 16 * 1024 * 1024;

/** Data below it is copied into its record: three buffers of a few bytes cost more to write than one. */
const COPIED_BYTES_MAX = 4096;

/** The records of `chunks`, in order, as buffers for one `writev`. Long data stays where it is. */
export function encodeRecords(chunks: readonly OutputChunk[]): readonly Uint8Array[] {
	const buffers: Uint8Array[] = [];
	for (const chunk of chunks) {
		const { data } = chunk;
		const isCopied = data.length <= COPIED_BYTES_MAX;
		const head = Buffer.allocUnsafe(RECORD_HEADER_BYTES + (isCopied ? data.length + CHECKSUM_BYTES : 0));
		head.writeUInt32BE(data.length, 0);
		head.writeUInt8(chunk.stream === 'stdout' ? 1 : 2, 4);
		head.writeBigUInt64BE(BigInt(chunk.offset), 5);
		head.writeBigUInt64BE(BigInt(chunk.droppedBytes), 13);
		buffers.push(head);
		if (isCopied) {
			head.set(data, RECORD_HEADER_BYTES);
			const end = RECORD_HEADER_BYTES + data.length;
			head.writeUInt32BE(crc32(head.subarray(0, end)), end);
		} else {
			const checksum = Buffer.allocUnsafe(CHECKSUM_BYTES);
			checksum.writeUInt32BE(crc32(data, crc32(head)));
			buffers.push(data, checksum);
		}
	}
	return buffers;
}

/** The record at the start of `bytes`, or undefined when there is no whole and sound one. */
export function decodeRecord(bytes: Buffer): { readonly chunk: OutputChunk; readonly recordBytes: number } | undefined {
	const length = recordBytesOf(bytes);
	if (length === undefined || bytes.length < length) return undefined;
	if (bytes.readUInt32BE(length - CHECKSUM_BYTES) !== crc32(bytes.subarray(0, length - CHECKSUM_BYTES)))
		return undefined;
	const stream = bytes.readUInt8(4);
	if (stream !== 1 && stream !== 2) return undefined;
	return {
		recordBytes: length,
		chunk: {
			offset: Number(bytes.readBigUInt64BE(5)),
			stream: stream === 1 ? 'stdout' : 'stderr',
			droppedBytes: Number(bytes.readBigUInt64BE(13)),
			data: bytes.subarray(RECORD_HEADER_BYTES, length - CHECKSUM_BYTES),
		},
	};
}

/** How long the record is whose header starts `bytes`; undefined when the header is cut or absurd. */
export function recordBytesOf(bytes: Buffer): number | undefined {
	if (bytes.length < RECORD_HEADER_BYTES) return undefined;
	const dataBytes = bytes.readUInt32BE(0);
	return dataBytes > RECORD_DATA_BYTES_MAX ? undefined : dataBytes + RECORD_OVERHEAD_BYTES;
}
