import { type FileHandle, open, rename, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { assert } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import type { AnchoredHead, HeadAnchor } from '../../app/audit/anchor.ts';

/**
 * Signed heads in a file, one JSON document a line: {"size", "atMs", "note"}. Each is synced before it counts. A full
 * file becomes `.1`, `.1` becomes `.2` and so on; the oldest is dropped (the database and whoever took heads away still
 * have them). A line that a crash cut off is removed at the next start. Invariant: sizes rise.
 */
export interface AnchorFileOptions {
	/** Default 16 MiB: about 50,000 heads. */
	readonly fileBytesMax?: number;
	/** Older files that are kept. Default 8. */
	readonly oldFilesMax?: number;
}

/** A line has far less: a note is about 250 bytes. */
const LINE_BYTES_MAX = 64 * 1024;

export class AnchorFile implements HeadAnchor, AsyncDisposable {
	readonly #path: string;
	readonly #fileBytesMax: number;
	readonly #oldFilesMax: number;
	#file: FileHandle;
	/** All before this is synced whole lines. */
	#bytes: number;
	#newest: AnchoredHead | undefined;

	private constructor(path: string, opened: Opened, options: AnchorFileOptions) {
		this.#path = path;
		this.#fileBytesMax = options.fileBytesMax ?? 16 * 1024 * 1024;
		this.#oldFilesMax = options.oldFilesMax ?? 8;
		this.#file = opened.file;
		this.#bytes = opened.bytes;
		this.#newest = opened.newest;
	}

	/** Makes the file when it is missing. Throws AUDIT_UNAVAILABLE when it is damaged before its end. */
	static async open(path: string, options: AnchorFileOptions = {}): Promise<AnchorFile> {
		const opened = await openFile(path);
		// A crash between renaming the full file and the first line of the new one.
		const newest = opened.newest ?? (await newestOfRotated(path));
		return new AnchorFile(path, { ...opened, newest }, options);
	}

	newest(): AnchoredHead | undefined {
		return this.#newest;
	}

	async append(head: AnchoredHead): Promise<void> {
		assert(head.size > (this.#newest?.size ?? 0), 'an anchored head is larger than the one before');
		const line = Buffer.from(`${JSON.stringify(head)}\n`, 'utf8');
		try {
			if (this.#bytes > 0 && this.#bytes + line.length > this.#fileBytesMax) await this.#rotate();
			// At its place and not at the end: after a failed write there may be half a line.
			for (let written = 0; written < line.length; ) {
				written += (await this.#file.write(line, written, line.length - written, this.#bytes + written)).bytesWritten;
			}
			await this.#file.truncate(this.#bytes + line.length);
			await this.#file.datasync();
		} catch (error) {
			throw writeFailed(this.#path, error);
		}
		this.#bytes += line.length;
		this.#newest = head;
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#file.close();
	}

	async #rotate(): Promise<void> {
		await this.#file.truncate(this.#bytes);
		for (let index = this.#oldFilesMax - 1; index >= 1; index -= 1) {
			await rename(`${this.#path}.${index}`, `${this.#path}.${index + 1}`).catch(ignoreMissing);
		}
		await rename(this.#path, `${this.#path}.1`);
		const full = this.#file;
		this.#file = await open(this.#path, 'wx+', 0o644);
		this.#bytes = 0;
		await full.close();
		await syncFolder(dirname(this.#path));
	}
}

interface Opened {
	readonly file: FileHandle;
	readonly bytes: number;
	readonly newest: AnchoredHead | undefined;
}

async function openFile(path: string): Promise<Opened> {
	const exists = await stat(path).then(
		() => true,
		() => false,
	);
	const file = await open(path, exists ? 'r+' : 'wx+', 0o644);
	try {
		if (!exists) await syncFolder(dirname(path));
		const { size } = await file.stat();
		const from = Math.max(0, size - 2 * LINE_BYTES_MAX);
		const tail = Buffer.alloc(size - from);
		await file.read(tail, 0, tail.length, from);
		const end = tail.lastIndexOf('\n') + 1;
		const bytes = from + end;
		if (end === 0 && size >= LINE_BYTES_MAX) throw damaged(path);
		if (bytes < size) await file.truncate(bytes);
		if (bytes === 0) return { file, bytes, newest: undefined };
		const start = tail.lastIndexOf('\n', end - 2) + 1;
		return { file, bytes, newest: parseLine(path, tail.toString('utf8', start, end - 1)) };
	} catch (error) {
		await file.close();
		throw error;
	}
}

async function newestOfRotated(path: string): Promise<AnchoredHead | undefined> {
	const rotated = `${path}.1`;
	const exists = await stat(rotated).then(
		() => true,
		() => false,
	);
	if (!exists) return undefined;
	const { file, newest } = await openFile(rotated);
	await file.close();
	return newest;
}

function parseLine(path: string, line: string): AnchoredHead {
	try {
		const { size, note, atMs }: Partial<AnchoredHead> = JSON.parse(line);
		if (Number.isSafeInteger(size) && typeof note === 'string' && typeof atMs === 'number') {
			return { size: Number(size), note, atMs };
		}
	} catch {
		// One message for both.
	}
	throw damaged(path);
}

function damaged(path: string): GpuaasError {
	return new GpuaasError({
		code: 'DATA_LOSS',
		reason: 'AUDIT_UNAVAILABLE',
		message: `the last line of ${path} is no audit head, so nobody can tell whether the audit log lost records; restore the file, or move it aside and keep it as evidence`,
	});
}

function writeFailed(path: string, cause: unknown): GpuaasError {
	const full = cause instanceof Error && 'code' in cause && (cause.code === 'ENOSPC' || cause.code === 'EDQUOT');
	return new GpuaasError({
		code: full ? 'RESOURCE_EXHAUSTED' : 'UNAVAILABLE',
		reason: full ? 'DISK_FULL' : 'AUDIT_UNAVAILABLE',
		message: `the signed audit head could not be written to ${path}; privileged calls are refused until it can. ${full ? 'Free space on its disk' : 'Look at its disk and its mode'}`,
		cause,
	});
}

async function syncFolder(path: string): Promise<void> {
	const folder = await open(path, 'r');
	try {
		await folder.sync();
	} finally {
		await folder.close();
	}
}

function ignoreMissing(error: unknown): void {
	if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
}
