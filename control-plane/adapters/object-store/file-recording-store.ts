import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readFile, rename, rm, statfs, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { assert } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { isUuid } from '../../../kit/ids.ts';
import type { RecordingFile, RecordingStore, RecoveredFile } from '../../app/recordings/recording-store.ts';
import { diskError } from './attempt-log.ts';
import { OpenRecording, syncFolder } from './open-recording.ts';
import { scanRecording } from './scan-recording.ts';

/**
 * Recordings in files: `<folder>/open/<id>.cast` while they grow, `<folder>/sha256/<2>/<62 more>.cast` once sealed. The
 * move is a rename after an fsync, so a file under a digest has that digest; `<folder>/sealed/<id>` names the digest before
 * the move, for whoever finds the file moved and nothing said about it. One process owns the folder. `open/<id>.room` holds
 * the space that the end of a recording takes: on a disk that ran full it could not be sealed.
 */
export interface FileRecordingStoreOptions {
	readonly folder: string;
	/** No recording begins, and none goes on, below this. */
	readonly freeBytesMin: number;
}

const SHA256 = /^[0-9a-f]{64}$/;
const CHECK_EVERY_BYTES = 8 * 1024 * 1024;
/** The note and two folders, in blocks of 4 KiB, with some to spare. */
const ROOM_BYTES = 64 * 1024;

export class FileRecordingStore implements RecordingStore {
	readonly #options: FileRecordingStoreOptions;

	constructor(options: FileRecordingStoreOptions) {
		this.#options = options;
	}

	async check(): Promise<void> {
		const { folder, freeBytesMin } = this.#options;
		await mkdir(folder, { recursive: true, mode: 0o700 });
		const { bavail, bsize } = await statfs(folder);
		const freeBytes = bavail * bsize;
		if (freeBytes >= freeBytesMin) return;
		throw new GpuaasError({
			code: 'RESOURCE_EXHAUSTED',
			reason: 'DISK_FULL',
			message: `only ${freeBytes} bytes are free where recordings are kept and ${freeBytesMin} must be; free space there`,
			metadata: { free_bytes: String(freeBytes), free_bytes_min: String(freeBytesMin), 'retry-after': '30' },
		});
	}

	async create(recordingId: string): Promise<RecordingFile> {
		await this.check();
		const path = this.#openPath(recordingId);
		await mkdir(dirname(path), { recursive: true, mode: 0o700 });
		const file = await open(
			path,
			constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
			0o600,
		);
		try {
			// Bytes, not a hole: they take their blocks now.
			await writeFile(this.#roomPath(recordingId), Buffer.alloc(ROOM_BYTES, 1), { mode: 0o600, flush: true });
		} catch (error) {
			await file.close();
			await rm(path, { force: true });
			await this.#freeRoom(recordingId);
			throw diskError(error);
		}
		return this.#opened(file, path, recordingId);
	}

	async recover(recordingId: string): Promise<RecoveredFile | undefined> {
		const path = this.#openPath(recordingId);
		const file = await ifThere(() => openToGoOn(path));
		if (file === undefined) return await this.#findSealed(recordingId);
		const recording = this.#opened(file, path, recordingId);
		try {
			const { hash: _, bytes: __, ...found } = await recording.takeUp();
			return { state: { kind: 'open', file: recording }, ...found };
		} catch (error) {
			await file.close();
			throw error;
		}
	}

	async #findSealed(recordingId: string): Promise<RecoveredFile | undefined> {
		const sha256 = await readFile(this.#notePath(recordingId), 'utf8').catch(() => '');
		if (!SHA256.test(sha256)) return undefined;
		const file = await ifThere(() => open(this.#sealedPath(sha256), constants.O_RDONLY | constants.O_NOFOLLOW));
		if (file === undefined) return undefined;
		try {
			const { hash: _, bytes, ...found } = await scanRecording(file);
			return { state: { kind: 'sealed', sha256, bytes }, ...found };
		} finally {
			await file.close();
		}
	}

	async read(sha256: string, offset: number, bytesMax: number): Promise<Uint8Array | undefined> {
		const file = await ifThere(() => open(this.#sealedPath(sha256), constants.O_RDONLY | constants.O_NOFOLLOW));
		if (file === undefined) return undefined;
		try {
			const { size } = await file.stat();
			const bytes = Buffer.alloc(Math.max(0, Math.min(bytesMax, size - offset)));
			const { bytesRead } = await file.read(bytes, 0, bytes.length, offset);
			return bytes.subarray(0, bytesRead);
		} finally {
			await file.close();
		}
	}

	async remove(recordingId: string, sha256: string): Promise<void> {
		await rm(this.#sealedPath(sha256), { force: true });
		await rm(this.#notePath(recordingId), { force: true });
	}

	#opened(file: FileHandle, path: string, recordingId: string): OpenRecording {
		return new OpenRecording({
			file,
			path,
			sealedPath: (sha256) => this.#sealedPath(sha256),
			freeRoom: () => this.#freeRoom(recordingId),
			note: (sha256) => this.#note(recordingId, sha256),
			check: () => this.check(),
			checkEveryBytes: CHECK_EVERY_BYTES,
		});
	}

	async #freeRoom(recordingId: string): Promise<void> {
		await rm(this.#roomPath(recordingId), { force: true });
	}

	#roomPath(recordingId: string): string {
		assert(isUuid(recordingId), 'a recording id is a UUID: it becomes a path');
		return join(this.#options.folder, 'open', `${recordingId}.room`);
	}

	#openPath(recordingId: string): string {
		assert(isUuid(recordingId), 'a recording id is a UUID: it becomes a path');
		return join(this.#options.folder, 'open', `${recordingId}.cast`);
	}

	async #note(recordingId: string, sha256: string): Promise<void> {
		const path = this.#notePath(recordingId);
		await mkdir(dirname(path), { recursive: true, mode: 0o700 });
		await writeFile(`${path}.tmp`, sha256, { mode: 0o600, flush: true });
		await rename(`${path}.tmp`, path);
		await syncFolder(dirname(path));
	}

	#notePath(recordingId: string): string {
		assert(isUuid(recordingId), 'a recording id is a UUID: it becomes a path');
		return join(this.#options.folder, 'sealed', recordingId);
	}

	#sealedPath(sha256: string): string {
		assert(SHA256.test(sha256), 'a digest is 64 hex digits: it becomes a path');
		return join(this.#options.folder, 'sha256', sha256.slice(0, 2), `${sha256.slice(2)}.cast`);
	}
}

/** One that was left between its end and its digest can't be written any more, by whoever isn't root. */
async function openToGoOn(path: string): Promise<FileHandle> {
	await using left = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
	await left.chmod(0o600);
	return await open(path, constants.O_RDWR | constants.O_NOFOLLOW);
}

async function ifThere(opening: () => Promise<FileHandle>): Promise<FileHandle | undefined> {
	try {
		return await opening();
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
		throw error;
	}
}
