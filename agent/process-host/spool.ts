/**
 * A task's output on disk: `spool/<task>.<attempt>/<first offset>` segments of records
 *   u8 stream | u64be offset | u32be length | bytes
 * One offset counts both streams; the order between the streams is the order in which the host read them. Up to the cap
 * everything is kept; beyond it the first half (head) and the newest segments of the last half (at least 7/8 of it).
 * Writing never fails and never waits for a reader: what the cap or a full disk drops is counted, and is a gap between
 * records. The folder is made with the first byte, so a silent task costs nothing.
 */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, fdatasync, ftruncateSync, mkdirSync, openSync, rmSync, writevSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Clock, yieldTurn } from '../../kit/clock.ts';
import type { OutputSummary, StreamDigest } from '../tasks/process-host.ts';
import { syncDirectory } from './journal.ts';
import { recordBytesMax } from './limits.ts';
import { type StreamName, streamNumber } from './protocol.ts';
import { readSpool, recordHeaderBytes, type SpoolRecord, segmentPath } from './spool-reader.ts';

const HEAD_SEGMENT_BYTES = 1 << 20;
const TAIL_SEGMENTS = 8;

interface Segment {
	readonly path: string;
	readonly fd: number;
	readonly bytesMax: number;
	readonly isHead: boolean;
	fileBytes: number;
	payloadBytes: number;
}

export class StreamHash {
	bytes = 0;
	#hash: Hash | undefined;

	update(chunk: Uint8Array): void {
		this.bytes += chunk.length;
		this.#hash ??= createHash('sha256');
		this.#hash.update(chunk);
	}

	digest(): StreamDigest {
		const hash = this.#hash ?? createHash('sha256');
		return { bytes: this.bytes, sha256: hash.copy().digest('hex') };
	}
}

class KeptOutput {
	readonly #hashes = { stdout: new StreamHash(), stderr: new StreamHash() };
	#end = 0;

	add(record: SpoolRecord): void {
		if (record.kind !== 'DATA') return;
		this.#hashes[record.stream].update(record.bytes);
		this.#end = record.offset + record.bytes.length;
	}

	summary(totalBytes = this.#end): OutputSummary {
		const kept = { stdout: this.#hashes.stdout.digest(), stderr: this.#hashes.stderr.digest() };
		return { totalBytes, droppedBytes: totalBytes - kept.stdout.bytes - kept.stderr.bytes, kept };
	}
}

/** Digests of what is kept in `folder`, by reading it; a folder that doesn't exist holds nothing. */
export function summarizeKept(folder: string): OutputSummary {
	const kept = new KeptOutput();
	for (const record of readSpool(folder)) kept.add(record);
	return kept.summary();
}

/** Read and hashed in about 2 ms. */
const TURN_BYTES = 1 << 20;

/** The same, with a turn for all other tasks of the host in between: there may be a GiB to read. */
async function summarizeInTurns(folder: string, totalBytes: number, clock: Clock): Promise<OutputSummary> {
	const kept = new KeptOutput();
	let inTurnBytes = 0;
	for (const record of readSpool(folder)) {
		kept.add(record);
		inTurnBytes += record.kind === 'DATA' ? record.bytes.length : 0;
		if (inTurnBytes < TURN_BYTES) continue;
		inTurnBytes = 0;
		await yieldTurn(clock);
	}
	return kept.summary(totalBytes);
}

export class SpoolWriter {
	readonly #folder: string;
	readonly #headBytesMax: number;
	readonly #tailBytesMax: number;
	readonly #written = { stdout: new StreamHash(), stderr: new StreamHash() };
	/** In order of offset; head segments first. */
	readonly #segments: Segment[] = [];
	readonly #syncing = new Set<Promise<void>>();
	#headBytes = 0;
	#tailBytes = 0;
	#offset = 0;
	#droppedBytes = 0;
	#current: Segment | undefined;

	constructor(folder: string, capBytes: number) {
		this.#folder = folder;
		this.#headBytesMax = Math.floor(capBytes / 2);
		this.#tailBytesMax = capBytes - this.#headBytesMax;
	}

	/** The offset after the last byte that the task wrote. */
	get offset(): number {
		return this.#offset;
	}

	/** Bytes on disk, framing included. */
	get diskBytes(): number {
		return this.#headBytes + this.#tailBytes;
	}

	write(stream: StreamName, chunk: Buffer): void {
		this.#written[stream].update(chunk);
		for (let at = 0; at < chunk.length; ) {
			const segment = this.#segmentWithRoom();
			const room = segment === undefined ? recordBytesMax : segment.bytesMax - segment.fileBytes - recordHeaderBytes;
			const part = chunk.subarray(at, at + Math.min(room, recordBytesMax));
			if (segment === undefined || !this.#put(segment, stream, part)) this.#droppedBytes += part.length;
			this.#offset += part.length;
			at += part.length;
		}
	}

	/** Makes what is kept durable and tells what it is. What the disk does not take is dropped, and counted. */
	async seal(clock: Clock): Promise<OutputSummary> {
		this.#closeCurrent();
		await Promise.all(this.#syncing);
		const written = { stdout: this.#written.stdout.digest(), stderr: this.#written.stderr.digest() };
		if (this.#offset === 0) return { totalBytes: 0, droppedBytes: 0, written, kept: written };
		try {
			syncDirectory(this.#folder);
			syncDirectory(dirname(this.#folder));
		} catch {
			// No folder: nothing of the output was kept.
		}
		if (this.#droppedBytes === 0) return { totalBytes: this.#offset, droppedBytes: 0, written, kept: written };
		return { ...(await summarizeInTurns(this.#folder, this.#offset, clock)), written };
	}

	#put(segment: Segment, stream: StreamName, part: Buffer): boolean {
		const header = Buffer.allocUnsafe(recordHeaderBytes);
		header.writeUInt8(streamNumber[stream], 0);
		header.writeBigUInt64BE(BigInt(this.#offset), 1);
		header.writeUInt32BE(part.length, 9);
		const length = header.length + part.length;
		try {
			if (writevSync(segment.fd, [header, part]) !== length) throw new Error('short write: the disk is full');
		} catch {
			try {
				ftruncateSync(segment.fd, segment.fileBytes);
			} catch {
				// Then a reader ends this segment at the torn record; the next byte goes to a new segment anyway.
			}
			this.#closeCurrent();
			return false;
		}
		this.#count(segment, length, part.length);
		return true;
	}

	#count(segment: Segment, fileBytes: number, payloadBytes: number): void {
		segment.fileBytes += fileBytes;
		segment.payloadBytes += payloadBytes;
		if (segment.isHead) this.#headBytes += fileBytes;
		else this.#tailBytes += fileBytes;
	}

	#segmentWithRoom(): Segment | undefined {
		const current = this.#current;
		if (current !== undefined && current.bytesMax - current.fileBytes > recordHeaderBytes) return current;
		this.#closeCurrent();
		// Once the tail has begun, room left in the head stays empty: segments are in order of offset.
		const headRoom = this.#headBytesMax - this.#headBytes;
		if (headRoom > recordHeaderBytes && this.#segments.at(-1)?.isHead !== false) {
			return this.#openSegment(true, Math.min(headRoom, HEAD_SEGMENT_BYTES));
		}
		const tailSegmentBytes = Math.floor(this.#tailBytesMax / TAIL_SEGMENTS);
		while (this.#tailBytes + tailSegmentBytes > this.#tailBytesMax) {
			const oldest = this.#segments.find((segment) => !segment.isHead);
			if (oldest === undefined) break;
			this.#drop(oldest);
		}
		return this.#openSegment(false, tailSegmentBytes);
	}

	#openSegment(isHead: boolean, bytesMax: number): Segment | undefined {
		try {
			if (this.#segments.length === 0) mkdirSync(this.#folder, { mode: 0o700, recursive: true });
			const path = segmentPath(this.#folder, this.#offset);
			const fd = openSync(path, 'ax', 0o600);
			this.#current = { path, fd, bytesMax, isHead, fileBytes: 0, payloadBytes: 0 };
			this.#segments.push(this.#current);
			return this.#current;
		} catch {
			return undefined;
		}
	}

	#drop(segment: Segment): void {
		const index = this.#segments.indexOf(segment);
		if (index < 0) return;
		this.#segments.splice(index, 1);
		this.#droppedBytes += segment.payloadBytes;
		this.#count(segment, -segment.fileBytes, 0);
		rmSync(segment.path, { force: true });
	}

	#closeCurrent(): void {
		const segment = this.#current;
		if (segment === undefined) return;
		this.#current = undefined;
		const syncing = new Promise<void>((resolve) => {
			fdatasync(segment.fd, (error) => {
				closeSync(segment.fd);
				// A failed fsync says that the disk does not have it, whatever the page cache shows.
				if (error) this.#drop(segment);
				this.#syncing.delete(syncing);
				resolve();
			});
		});
		this.#syncing.add(syncing);
	}
}
