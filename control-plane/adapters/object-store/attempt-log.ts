import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { GpuaasError } from '../../../kit/error.ts';
import type { OutputChunk } from '../../app/tasks/output-store.ts';
import { decodeRecord, encodeRecords, RECORD_DATA_BYTES_MAX, RECORD_OVERHEAD_BYTES, recordBytesOf } from './record.ts';

/**
 * The log file of one attempt, open. Calls come one after another: the store's queue sees to
 * that. At open the file is read from the last durable mark on, every checksum is
 * looked at, and a torn tail is cut: what was not synced may be lost and is sent again by the agent.
 *
 * The index (`<file>.index`) holds durable marks, offset and position as two u64, each written after an fsync of the
 * log. It only saves time: without it, or with a bad one, the whole log is read.
 */
export interface Mark {
	/** Output offset at which the record at `position` starts, dropped bytes included. */
	readonly offset: number;
	readonly position: number;
}

/** One mark in this many bytes of log: a read scans at most so far, 1 GiB of output has 4096 marks. */
const MARK_SPACING_BYTES = 256 * 1024;
const SCAN_BYTES = 1024 * 1024;
const MARK_BYTES = 16;

export class AttemptLog {
	readonly #file: FileHandle;
	readonly #index: FileHandle;
	/** Rising; the first is the start. */
	readonly #marks: Mark[] = [{ offset: 0, position: 0 }];
	#durableMarks = 1;
	#endOffset = 0;
	#endPosition = 0;
	#isDirty = false;

	private constructor(file: FileHandle, index: FileHandle) {
		this.#file = file;
		this.#index = index;
	}

	static async open(path: string): Promise<AttemptLog> {
		const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
		const file = await open(path, flags, 0o600);
		const index = await open(`${path}.index`, flags, 0o600);
		const log = new AttemptLog(file, index);
		await log.#recover();
		return log;
	}

	get endOffset(): number {
		return this.#endOffset;
	}

	/** Bytes of the log, framing included. */
	get storedBytes(): number {
		return this.#endPosition;
	}

	/** The chunks must follow on the end; see FileOutputStore. A failed write leaves the log as it was. */
	async append(chunks: readonly OutputChunk[]): Promise<void> {
		const parts = chunks.flatMap(split);
		try {
			await writeAll(this.#file, encodeRecords(parts), this.#endPosition);
		} catch (error) {
			// Part of it may be there; the next append writes over it, and a crash before that finds it torn.
			await this.#file.truncate(this.#endPosition).catch(() => {});
			throw error;
		}
		for (const { offset, data, droppedBytes } of parts) {
			this.#mark({ offset: offset - droppedBytes, position: this.#endPosition });
			this.#endPosition += data.length + RECORD_OVERHEAD_BYTES;
			this.#endOffset = offset + data.length;
		}
		this.#isDirty = true;
	}

	async sync(): Promise<void> {
		if (!this.#isDirty) return;
		this.#isDirty = false;
		const marks = this.#marks.length;
		try {
			await this.#file.datasync();
		} catch (error) {
			this.#isDirty = true;
			throw error;
		}
		// Only now: a mark says that all before it is durable.
		const fresh = this.#marks.slice(this.#durableMarks, marks);
		await writeAll(this.#index, fresh.map(encodeMark), (this.#durableMarks - 1) * MARK_BYTES);
		this.#durableMarks = marks;
	}

	async read(offset: number, bytesMax: number): Promise<readonly OutputChunk[]> {
		const end = this.#endPosition;
		const start = this.#markBefore(offset);
		const chunks: OutputChunk[] = [];
		let left = bytesMax;
		for await (const { chunk } of this.#scan(start.position, end)) {
			const cut = cutToStart(chunk, offset, left);
			if (cut === undefined) continue;
			chunks.push(cut);
			left -= cut.data.length;
			if (left <= 0) break;
		}
		return chunks;
	}

	async close(): Promise<void> {
		await this.#file.close();
		await this.#index.close();
	}

	async #recover(): Promise<void> {
		const { size } = await this.#file.stat();
		for (const mark of await readMarks(this.#index)) {
			const last = this.#marks.at(-1);
			if (last === undefined || mark.position <= last.position || mark.offset < last.offset || mark.position > size)
				break;
			this.#marks.push(mark);
		}
		this.#durableMarks = this.#marks.length;
		const start = this.#marks.at(-1);
		this.#endPosition = start?.position ?? 0;
		this.#endOffset = start?.offset ?? 0;
		for await (const { chunk, position, recordBytes } of this.#scan(this.#endPosition, size)) {
			// A whole record that doesn't follow on was left by a write that a crash took back in part.
			if (chunk.offset - chunk.droppedBytes !== this.#endOffset) break;
			this.#mark({ offset: this.#endOffset, position });
			this.#endPosition = position + recordBytes;
			this.#endOffset = chunk.offset + chunk.data.length;
		}
		if (this.#endPosition < size) await this.#file.truncate(this.#endPosition);
	}

	/** Records from `position` on, as long as they are whole, up to `end`. */
	async *#scan(position: number, end: number) {
		let buffer = Buffer.alloc(0);
		let at = position;
		for (;;) {
			const decoded = decodeRecord(buffer);
			if (decoded !== undefined) {
				yield { ...decoded, position: at };
				at += decoded.recordBytes;
				buffer = buffer.subarray(decoded.recordBytes);
				continue;
			}
			const needed = buffer.length === 0 ? SCAN_BYTES : (recordBytesOf(buffer) ?? SCAN_BYTES);
			const readFrom = at + buffer.length;
			// Enough bytes and still no record: it is torn.
			if (readFrom >= end || (buffer.length >= needed && buffer.length > 0)) return;
			const more = Buffer.allocUnsafe(Math.min(Math.max(SCAN_BYTES, needed - buffer.length), end - readFrom));
			const { bytesRead } = await this.#file.read(more, 0, more.length, readFrom);
			if (bytesRead === 0) return;
			buffer = Buffer.concat([buffer, more.subarray(0, bytesRead)]);
		}
	}

	#mark(mark: Mark): void {
		const last = this.#marks.at(-1);
		if (last === undefined || mark.position - last.position >= MARK_SPACING_BYTES) this.#marks.push(mark);
	}

	#markBefore(offset: number): Mark {
		let low = 0;
		let high = this.#marks.length - 1;
		while (low < high) {
			const middle = (low + high + 1) >> 1;
			if ((this.#marks[middle]?.offset ?? 0) <= offset) low = middle;
			else high = middle - 1;
		}
		return this.#marks[low] ?? { offset: 0, position: 0 };
	}
}

/** The part of `chunk` at and after `offset`, at most `bytesMax` long; undefined when all of it is before. */
export function cutToStart(chunk: OutputChunk, offset: number, bytesMax: number): OutputChunk | undefined {
	const end = chunk.offset + chunk.data.length;
	if (end <= offset) return undefined;
	const skipped = Math.max(0, offset - chunk.offset);
	return {
		stream: chunk.stream,
		offset: chunk.offset + skipped,
		data: chunk.data.subarray(skipped, skipped + bytesMax),
		// Of the gap before it, only what the reader has not passed.
		droppedBytes: Math.min(chunk.droppedBytes, Math.max(0, chunk.offset - offset)),
	};
}

function split(chunk: OutputChunk): OutputChunk[] {
	const parts: OutputChunk[] = [];
	for (let from = 0; from < chunk.data.length || from === 0; from += RECORD_DATA_BYTES_MAX) {
		const data = chunk.data.subarray(from, from + RECORD_DATA_BYTES_MAX);
		parts.push({ ...chunk, offset: chunk.offset + from, data, droppedBytes: from === 0 ? chunk.droppedBytes : 0 });
	}
	return parts;
}

/** A short write, as a disk gives that is nearly full, goes on where it ended. */
async function writeAll(file: FileHandle, buffers: readonly Uint8Array[], position: number): Promise<void> {
	let left = buffers;
	let at = position;
	while (left.length > 0) {
		const { bytesWritten } = await file.writev(left, at);
		at += bytesWritten;
		left = after(left, bytesWritten);
	}
}

/** What of `buffers` is left after the first `bytes`. */
function after(buffers: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
	let skipped = bytes;
	let index = 0;
	for (; index < buffers.length && skipped >= (buffers[index]?.length ?? 0); index += 1)
		skipped -= buffers[index]?.length ?? 0;
	const [first, ...others] = buffers.slice(index);
	return first === undefined ? [] : [first.subarray(skipped), ...others];
}

function encodeMark({ offset, position }: Mark): Buffer {
	const bytes = Buffer.alloc(MARK_BYTES);
	bytes.writeBigUInt64BE(BigInt(offset), 0);
	bytes.writeBigUInt64BE(BigInt(position), 8);
	return bytes;
}

async function readMarks(index: FileHandle): Promise<readonly Mark[]> {
	const bytes = await index.readFile();
	const marks: Mark[] = [];
	for (let at = 0; at + MARK_BYTES <= bytes.length; at += MARK_BYTES) {
		marks.push({ offset: Number(bytes.readBigUInt64BE(at)), position: Number(bytes.readBigUInt64BE(at + 8)) });
	}
	return marks;
}

/** Out of space, by whatever name the file system gives it. */
export function diskError(thrown: unknown): unknown {
	const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined;
	if (code !== 'ENOSPC' && code !== 'EDQUOT' && code !== 'EFBIG') return thrown;
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'DISK_FULL',
		message:
			'the disk for task output is full, so nothing more can be kept; free space there, agents send again by themselves',
		metadata: { 'retry-after': '30' },
		cause: thrown,
	});
}
