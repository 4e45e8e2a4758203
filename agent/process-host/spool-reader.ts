/** Reading a spool, live or dead, from any offset; the format is in spool.ts. Synchronous: it reads the page cache. */
import { closeSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { recordBytesMax } from './limits.ts';
import { type StreamName, streamName } from './protocol.ts';

export const recordHeaderBytes = 13;

export type SpoolRecord =
	| { readonly kind: 'DATA'; readonly stream: StreamName; readonly offset: number; readonly bytes: Buffer }
	| { readonly kind: 'GAP'; readonly offset: number; readonly droppedBytes: number };

interface OpenSegment {
	readonly startOffset: number;
	readonly fd: number;
	position: number;
}

/** Where the next record begins, in a spool that may grow and lose segments while it is read. */
export class SpoolCursor {
	readonly #folder: string;
	/** Next offset to give. */
	#offset: number;
	#segment: OpenSegment | undefined;
	/** A record behind a gap, given after it. */
	#behindGap: SpoolRecord | undefined;

	constructor(folder: string, fromOffset: number) {
		this.#folder = folder;
		this.#offset = fromOffset;
	}

	get offset(): number {
		return this.#offset;
	}

	/** The next record, or undefined when there is none yet. */
	next(): SpoolRecord | undefined {
		const held = this.#behindGap;
		this.#behindGap = undefined;
		const record = held ?? this.#read();
		if (record === undefined || record.kind === 'GAP') return record;
		if (record.offset > this.#offset) {
			const gap = { kind: 'GAP', offset: this.#offset, droppedBytes: record.offset - this.#offset } as const;
			this.#behindGap = record;
			this.#offset = record.offset;
			return gap;
		}
		const skip = this.#offset - record.offset;
		this.#offset = record.offset + record.bytes.length;
		return skip === 0 ? record : { ...record, offset: record.offset + skip, bytes: record.bytes.subarray(skip) };
	}

	close(): void {
		if (this.#segment !== undefined) closeSync(this.#segment.fd);
		this.#segment = undefined;
	}

	#read(): SpoolRecord | undefined {
		for (;;) {
			const segment = this.#segment;
			const record = segment === undefined ? undefined : readRecord(segment, this.#offset);
			if (record !== undefined) return record;
			if (!this.#openNext()) return undefined;
		}
	}

	/** Goes to the segment after the current one; at the beginning to the one that holds the offset. */
	#openNext(): boolean {
		const starts = listSegments(this.#folder);
		const current = this.#segment;
		const start =
			current === undefined
				? (starts.findLast((each) => each <= this.#offset) ?? starts[0])
				: starts.find((each) => each > current.startOffset);
		if (start === undefined) return false;
		let fd: number;
		try {
			fd = openSync(segmentPath(this.#folder, start), 'r');
		} catch {
			return false;
		}
		this.close();
		this.#segment = { startOffset: start, fd, position: 0 };
		return true;
	}
}

export function segmentPath(folder: string, startOffset: number): string {
	return join(folder, String(startOffset).padStart(16, '0'));
}

function listSegments(folder: string): readonly number[] {
	try {
		return readdirSync(folder)
			.map(Number)
			.sort((a, b) => a - b);
	} catch {
		return [];
	}
}

/** Skips records that end before `fromOffset`; undefined at the end of the segment or at a torn record. */
function readRecord(segment: OpenSegment, fromOffset: number): SpoolRecord | undefined {
	const header = Buffer.allocUnsafe(recordHeaderBytes);
	for (;;) {
		if (readSync(segment.fd, header, 0, recordHeaderBytes, segment.position) < recordHeaderBytes) return undefined;
		const stream = streamName(header.readUInt8(0));
		const offset = Number(header.readBigUInt64BE(1));
		const length = header.readUInt32BE(9);
		if (stream === undefined || length === 0 || length > recordBytesMax || !Number.isSafeInteger(offset))
			return undefined;
		const next = segment.position + recordHeaderBytes + length;
		if (offset + length <= fromOffset) {
			segment.position = next;
			continue;
		}
		const bytes = Buffer.allocUnsafe(length);
		if (readSync(segment.fd, bytes, 0, length, segment.position + recordHeaderBytes) < length) return undefined;
		segment.position = next;
		return { kind: 'DATA', stream, offset, bytes };
	}
}

/** All that is kept in a spool that nobody writes any more. */
export function* readSpool(folder: string, fromOffset = 0): Generator<SpoolRecord, void, void> {
	const cursor = new SpoolCursor(folder, fromOffset);
	try {
		for (let record = cursor.next(); record !== undefined; record = cursor.next()) yield record;
	} finally {
		cursor.close();
	}
}
