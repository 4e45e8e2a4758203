import { mkdir, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { assert } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { isUuid } from '../../../kit/ids.ts';
import type { OutputChunk, OutputStore } from '../../app/tasks/output-store.ts';
import { AttemptLog, diskError } from './attempt-log.ts';
import { RECORD_OVERHEAD_BYTES } from './record.ts';

/**
 * Task output in files: `<folder>/<last two of the id>/<task id>/<attempt>.log`. Invariants: one writer an attempt at a
 * time, whoever calls; what `storedOffset` says is never more than what a read gives; a crash at any point loses at
 * most what was not synced. Open files are bounded: the one that was idle longest is synced and closed. One process
 * owns the folder; replicas share an object store instead.
 */
export interface FileOutputStoreOptions {
	readonly folder: string;
	/** Refuses new output below this: the disk may be the store's too. Default 512 MiB. */
	readonly freeBytesMin?: number;
	/** Two descriptors each. Default 256. */
	readonly openLogsMax?: number;
}

interface Slot {
	/** Reads and writes of this attempt, one after another; settles, never rejects. */
	tail: Promise<unknown>;
	/** Its syncs, one after another and each after what was queued before it: appends don't wait for them. */
	syncTail: Promise<unknown>;
	log: Promise<AttemptLog> | undefined;
	/** Calls queued or running: a busy slot isn't closed. */
	users: number;
}

const SETTLED: Promise<unknown> = Promise.resolve();

/** Output appended between two looks at the free space. */
const CHECK_EVERY_BYTES = 8 * 1024 * 1024;

export class FileOutputStore implements OutputStore, AsyncDisposable {
	readonly #folder: string;
	readonly #freeBytesMin: number;
	readonly #openLogsMax: number;
	/** In order of use. */
	readonly #slots = new Map<string, Slot>();
	/** Whoever opens a log again must find it closed. */
	readonly #closing = new Map<string, Promise<void>>();
	#uncheckedBytes = CHECK_EVERY_BYTES;

	constructor(options: FileOutputStoreOptions) {
		this.#folder = options.folder;
		this.#freeBytesMin = options.freeBytesMin ?? 512 * 1024 * 1024;
		this.#openLogsMax = options.openLogsMax ?? 256;
	}

	async storedOffset(taskId: string, attempt: number): Promise<number> {
		return (await this.#existing(taskId, attempt, (log) => Promise.resolve(log.endOffset))) ?? 0;
	}

	async append(
		taskId: string,
		attempt: number,
		chunks: readonly OutputChunk[],
		storedBytesMax: number,
	): Promise<number> {
		return await this.#run(taskId, attempt, async (log) => {
			// In the queue: an append that waited for the disk here would be passed by the one after it.
			this.#uncheckedBytes += chunks.reduce((sum, { data }) => sum + data.length, 0);
			if (this.#uncheckedBytes >= CHECK_EVERY_BYTES) {
				await this.check();
				this.#uncheckedBytes = 0;
			}
			const fresh = followingOn(chunks, log.endOffset);
			const { fitting, refused } = cutToSize(fresh, storedBytesMax - log.storedBytes);
			if (fitting.length > 0) await log.append(fitting);
			if (refused) throw tooLarge(storedBytesMax);
			return log.endOffset;
		});
	}

	async sync(taskId: string, attempt: number): Promise<void> {
		await this.#existing(taskId, attempt, (log) => log.sync(), 'syncTail');
	}

	async read(taskId: string, attempt: number, offset: number, bytesMax: number): Promise<readonly OutputChunk[]> {
		return (await this.#existing(taskId, attempt, (log) => log.read(offset, bytesMax))) ?? [];
	}

	async remove(taskId: string): Promise<void> {
		for (const [key, slot] of this.#slots) {
			if (!key.startsWith(`${taskId}/`)) continue;
			this.#slots.delete(key);
			await closeSlot(slot);
		}
		await rm(this.#taskFolder(taskId), { recursive: true, force: true });
	}

	async check(): Promise<void> {
		await mkdir(this.#folder, { recursive: true, mode: 0o700 });
		const { bavail, bsize } = await statfs(this.#folder);
		const freeBytes = bavail * bsize;
		if (freeBytes >= this.#freeBytesMin) return;
		throw new GpuaasError({
			code: 'RESOURCE_EXHAUSTED',
			reason: 'DISK_FULL',
			message: `only ${freeBytes} bytes are free where task output is kept and ${this.#freeBytesMin} must be; free space there`,
			metadata: { free_bytes: String(freeBytes), free_bytes_min: String(this.#freeBytesMin), 'retry-after': '30' },
		});
	}

	async [Symbol.asyncDispose](): Promise<void> {
		const slots = [...this.#slots.values()];
		this.#slots.clear();
		for (const slot of slots) await closeSlot(slot);
		await Promise.all(this.#closing.values());
	}

	/** Undefined when nothing was ever stored of the attempt: looking must make no files. */
	async #existing<T>(
		taskId: string,
		attempt: number,
		work: (log: AttemptLog) => Promise<T>,
		lane: 'tail' | 'syncTail' = 'tail',
	): Promise<T | undefined> {
		const isOpen = this.#slots.has(`${taskId}/${attempt}`);
		if (!isOpen && !(await exists(this.#path(taskId, attempt)))) return undefined;
		return await this.#run(taskId, attempt, work, lane);
	}

	#run<T>(
		taskId: string,
		attempt: number,
		work: (log: AttemptLog) => Promise<T>,
		lane: 'tail' | 'syncTail' = 'tail',
	): Promise<T> {
		const key = `${taskId}/${attempt}`;
		const slot = this.#slots.get(key) ?? { tail: SETTLED, syncTail: SETTLED, log: undefined, users: 0 };
		// To the end of the order of use.
		this.#slots.delete(key);
		this.#slots.set(key, slot);
		slot.users += 1;
		const before = lane === 'tail' ? slot.tail : Promise.all([slot.tail, slot.syncTail]);
		const result = before.then(async () => {
			try {
				return await work(await this.#logOf(slot, taskId, attempt));
			} catch (error) {
				throw diskError(error);
			} finally {
				slot.users -= 1;
			}
		});
		slot[lane] = result.catch(() => {});
		this.#closeIdle();
		return result;
	}

	async #logOf(slot: Slot, taskId: string, attempt: number): Promise<AttemptLog> {
		slot.log ??= this.#open(taskId, attempt);
		try {
			return await slot.log;
		} catch (error) {
			// The next call tries again: the disk may have room by then.
			slot.log = undefined;
			throw error;
		}
	}

	async #open(taskId: string, attempt: number): Promise<AttemptLog> {
		await this.#closing.get(`${taskId}/${attempt}`);
		await mkdir(this.#taskFolder(taskId), { recursive: true, mode: 0o700 });
		return await AttemptLog.open(this.#path(taskId, attempt));
	}

	#closeIdle(): void {
		if (this.#slots.size <= this.#openLogsMax) return;
		for (const [key, slot] of this.#slots) {
			if (slot.users > 0) continue;
			this.#slots.delete(key);
			const closing = closeSlot(slot)
				.catch(() => {})
				.finally(() => this.#closing.delete(key));
			this.#closing.set(key, closing);
			return;
		}
	}

	#taskFolder(taskId: string): string {
		assert(isUuid(taskId), 'a task id is a UUID: it becomes a path');
		return join(this.#folder, taskId.slice(-2), taskId);
	}

	#path(taskId: string, attempt: number): string {
		assert(Number.isSafeInteger(attempt) && attempt >= 0, 'an attempt is a whole number');
		return join(this.#taskFolder(taskId), `${attempt}.log`);
	}
}

async function closeSlot(slot: Slot): Promise<void> {
	await Promise.all([slot.tail, slot.syncTail]);
	const log = await slot.log?.catch(() => undefined);
	await log?.sync();
	await log?.close();
}

async function exists(path: string): Promise<boolean> {
	try {
		await stat(path);
		return true;
	} catch {
		return false;
	}
}

/** What of `chunks` is new after `endOffset`, in order. Throws OUTPUT_GAP. */
export function followingOn(chunks: readonly OutputChunk[], endOffset: number): readonly OutputChunk[] {
	const fresh: OutputChunk[] = [];
	let end = endOffset;
	for (const chunk of chunks) {
		const chunkEnd = chunk.offset + chunk.data.length;
		if (chunkEnd <= end) continue;
		if (chunk.offset - chunk.droppedBytes > end) throw gap(end, chunk.offset - chunk.droppedBytes);
		const skipped = Math.max(0, end - chunk.offset);
		fresh.push({
			stream: chunk.stream,
			offset: chunk.offset + skipped,
			data: chunk.data.subarray(skipped),
			droppedBytes: Math.max(0, chunk.offset - end),
		});
		end = chunkEnd;
	}
	return fresh;
}

function gap(end: number, offset: number): GpuaasError {
	return new GpuaasError({
		code: 'OUT_OF_RANGE',
		reason: 'OUTPUT_GAP',
		message: `output up to ${end} is stored and what was sent begins at ${offset}; send from ${end} on`,
		metadata: { stored_offset: String(end) },
	});
}

/** The chunks that fit into `bytesMax` as records, and the first that doesn't as a gap. */
function cutToSize(
	chunks: readonly OutputChunk[],
	bytesMax: number,
): { readonly fitting: readonly OutputChunk[]; readonly refused: boolean } {
	const fitting: OutputChunk[] = [];
	// Room for the gap is kept free.
	let left = bytesMax - RECORD_OVERHEAD_BYTES;
	for (const chunk of chunks) {
		left -= chunk.data.length + RECORD_OVERHEAD_BYTES;
		if (left >= 0) {
			fitting.push(chunk);
			continue;
		}
		const { offset, data, droppedBytes } = chunk;
		const gap = { ...chunk, offset: offset + data.length, data: data.subarray(0, 0) };
		if (bytesMax - recordBytes(fitting) >= RECORD_OVERHEAD_BYTES)
			fitting.push({ ...gap, droppedBytes: droppedBytes + data.length });
		return { fitting, refused: true };
	}
	return { fitting, refused: false };
}

function recordBytes(chunks: readonly OutputChunk[]): number {
	return chunks.reduce((sum, { data }) => sum + data.length + RECORD_OVERHEAD_BYTES, 0);
}

function tooLarge(storedBytesMax: number): GpuaasError {
	return new GpuaasError({
		// Not RESOURCE_EXHAUSTED: trying again can't help.
		code: 'FAILED_PRECONDITION',
		reason: 'OUTPUT_TOO_LARGE',
		message: `more output came than the task may have (${storedBytesMax} bytes are kept of it); the rest is dropped`,
		metadata: { stored_bytes_max: String(storedBytesMax) },
	});
}
