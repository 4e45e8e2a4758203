import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { assert } from '../../../kit/assert.ts';
import { decodeRecord, encodeRecord, RECORD_BYTES_MAX, RECORD_HEADER_BYTES } from './segment.ts';

/**
 * Requests that wait to be pushed, on disk, so that neither an outage of the receiver nor a restart of ours loses them:
 * appended to numbered segments, read in order, and taken off once the receiver has them. Bounded: past `bytesMax` the
 * oldest segment goes and its records are counted, because what is newest is worth most. After a crash the newest
 * seconds may be missing (writes aren't synced one by one) and the newest acknowledged may be sent again, which
 * receivers of time series take as the same samples.
 *
 * One process owns the folder. One writer and one reader; both in this process.
 */
export interface PushQueueOptions {
	readonly folder: string;
	/** Default 512 MiB: two minutes of 10,000 nodes, hours of a hundred. */
	readonly bytesMax?: number;
	/** Default 8 MiB. What is dropped at once when the queue is full. */
	readonly segmentBytesMax?: number;
}

interface Segment {
	readonly number: number;
	bytes: number;
	records: number;
}

const NAME = /^(\d{12})\.seg$/;

export class PushQueue implements AsyncDisposable {
	readonly #folder: string;
	readonly #bytesMax: number;
	readonly #segmentBytesMax: number;
	/** Oldest first; the last is written. */
	readonly #segments: Segment[] = [];
	#writer: FileHandle | undefined;
	/** The oldest segment, as it was read, and where its next record starts. */
	#read: { readonly number: number; bytes: Buffer; at: number } | undefined;
	/** Records of the oldest segment that are taken off. */
	#taken = 0;
	#tail: Promise<unknown> = Promise.resolve();
	#droppedRecords = 0;

	private constructor(options: PushQueueOptions) {
		this.#folder = options.folder;
		this.#segmentBytesMax = options.segmentBytesMax ?? 8 * 1024 * 1024;
		this.#bytesMax = options.bytesMax ?? 512 * 1024 * 1024;
		assert(this.#bytesMax >= 2 * this.#segmentBytesMax, 'a push queue holds at least two segments');
	}

	static async open(options: PushQueueOptions): Promise<PushQueue> {
		const queue = new PushQueue(options);
		await queue.#scan();
		return queue;
	}

	get bytes(): number {
		return this.#segments.reduce((sum, { bytes }) => sum + bytes, 0);
	}

	get records(): number {
		return this.#segments.reduce((sum, { records }) => sum + records, 0) - this.#taken;
	}

	/** Since the start: what had to make room. */
	get droppedRecords(): number {
		return this.#droppedRecords;
	}

	/** Throws what the disk says; the record is not in the queue then. */
	append(data: Uint8Array): Promise<void> {
		assert(data.length <= RECORD_BYTES_MAX, 'a record of the push queue is one request');
		return this.#exclusively(async () => {
			const record = encodeRecord(data);
			const newest = await this.#writable(record.length);
			await this.#writeAll(record, newest.bytes);
			newest.bytes += record.length;
			newest.records += 1;
			while (this.bytes > this.#bytesMax && this.#segments.length > 1) await this.#dropOldest();
		});
	}

	/** The oldest record; undefined when there is none. Stays until `take`. */
	peek(): Promise<Buffer | undefined> {
		return this.#exclusively(async () => {
			for (;;) {
				const [oldest] = this.#segments;
				if (oldest === undefined || this.records === 0) return undefined;
				if (this.#taken >= oldest.records) {
					await this.#removeOldest();
					continue;
				}
				const found = decodeRecord(await this.#bytesOf(oldest), this.#read?.at ?? 0);
				if (found !== undefined) return found.data;
				// Damaged on disk since it was written: what follows in this segment can't be found any more.
				await this.#dropOldest();
			}
		});
	}

	/** Takes the oldest record off. Only after a `peek` that gave it. */
	take(): Promise<void> {
		return this.#exclusively(async () => {
			const [oldest] = this.#segments;
			// It may have been dropped to make room while it was sent.
			if (oldest === undefined || this.#read?.number !== oldest.number) return;
			const found = decodeRecord(this.#read.bytes, this.#read.at);
			if (found === undefined) return;
			this.#read.at = found.nextAt;
			this.#taken += 1;
			if (this.#taken >= oldest.records && this.#segments.length > 1) await this.#removeOldest();
			else await this.#keepCursor(oldest.number);
		});
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#exclusively(async () => {
			await this.#writer?.sync();
			await this.#writer?.close();
			this.#writer = undefined;
		});
	}

	#exclusively<T>(work: () => Promise<T>): Promise<T> {
		const result = this.#tail.then(work);
		this.#tail = result.catch(() => {});
		return result;
	}

	async #writable(bytes: number): Promise<Segment> {
		const newest = this.#segments.at(-1);
		if (this.#writer !== undefined && newest !== undefined && newest.bytes + bytes <= this.#segmentBytesMax)
			return newest;
		await this.#writer?.close();
		this.#writer = undefined;
		const segment = { number: (newest?.number ?? 0) + 1, bytes: 0, records: 0 };
		this.#writer = await open(this.#path(segment.number), 'wx', 0o600);
		this.#segments.push(segment);
		return segment;
	}

	/** Positioned, so that a write which failed half-way is overwritten by the next. */
	async #writeAll(record: Buffer, position: number): Promise<void> {
		assert(this.#writer !== undefined, 'a segment is open');
		for (let done = 0; done < record.length; ) {
			const { bytesWritten } = await this.#writer.write(record, done, record.length - done, position + done);
			done += bytesWritten;
		}
	}

	/** The segment's bytes, read again when records were appended since. */
	async #bytesOf(segment: Segment): Promise<Buffer> {
		if (this.#read?.number !== segment.number)
			this.#read = { number: segment.number, bytes: await this.#readSegment(segment), at: 0 };
		else if (this.#read.bytes.length < segment.bytes && this.#read.at >= this.#read.bytes.length)
			this.#read.bytes = await this.#readSegment(segment);
		return this.#read.bytes;
	}

	/** Without what a write that failed half-way left behind its records: the next one comes in its place. */
	async #readSegment({ number, bytes }: Segment): Promise<Buffer> {
		return (await readFile(this.#path(number))).subarray(0, bytes);
	}

	async #dropOldest(): Promise<void> {
		this.#droppedRecords += (this.#segments[0]?.records ?? 0) - this.#taken;
		await this.#removeOldest();
	}

	async #removeOldest(): Promise<void> {
		const oldest = this.#segments.shift();
		if (oldest === undefined) return;
		this.#read = undefined;
		this.#taken = 0;
		if (this.#segments.length === 0) {
			await this.#writer?.close();
			this.#writer = undefined;
		}
		await rm(this.#path(oldest.number), { force: true });
	}

	/** Where a restart goes on. Losing it costs sending a segment again. */
	async #keepCursor(number: number): Promise<void> {
		const path = join(this.#folder, 'cursor');
		await writeFile(`${path}.tmp`, `${number} ${this.#taken}\n`, { mode: 0o600 });
		await rename(`${path}.tmp`, path);
	}

	async #scan(): Promise<void> {
		await mkdir(this.#folder, { recursive: true, mode: 0o700 });
		const numbers = (await readdir(this.#folder)).flatMap((name) => NAME.exec(name)?.[1] ?? []).map(Number);
		for (const number of numbers.sort((a, b) => a - b)) {
			const segment = await scanSegment(this.#path(number), number);
			this.#segments.push(segment);
		}
		const [oldest] = this.#segments;
		const cursor = await readFile(join(this.#folder, 'cursor'), 'utf8').catch(() => '');
		const [number, taken] = cursor.split(' ').map(Number);
		if (oldest === undefined || number !== oldest.number || taken === undefined) return;
		const bytes = await this.#readSegment(oldest);
		let at = 0;
		for (; this.#taken < Math.min(taken, oldest.records); this.#taken += 1) at = decodeRecord(bytes, at)?.nextAt ?? at;
		this.#read = { number, bytes, at };
	}

	#path(number: number): string {
		return join(this.#folder, `${String(number).padStart(12, '0')}.seg`);
	}
}

/** Counts whole records; what follows them was torn by a crash and is never written behind: a start begins a new segment. */
async function scanSegment(path: string, number: number): Promise<Segment> {
	const segment = { number, bytes: 0, records: 0 };
	if ((await stat(path)).size < RECORD_HEADER_BYTES) return segment;
	const bytes = await readFile(path);
	for (let found = decodeRecord(bytes, 0); found !== undefined; found = decodeRecord(bytes, found.nextAt)) {
		segment.records += 1;
		segment.bytes = found.nextAt;
	}
	return segment;
}
