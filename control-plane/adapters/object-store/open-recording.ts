import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { RecordingFile, SealedFile } from '../../app/recordings/recording-store.ts';
import { diskError } from './attempt-log.ts';
import { type Scanned, scanRecording } from './scan-recording.ts';

/** A recording that grows: hashed while it is written. */
export interface OpenRecordingOptions {
	readonly file: FileHandle;
	readonly path: string;
	readonly sealedPath: (sha256: string) => string;
	/** Gives back what was kept free for its end. */
	readonly freeRoom: () => Promise<void>;
	/** Says under which digest it is, before it is there. */
	readonly note: (sha256: string) => Promise<void>;
	/** Throws DISK_FULL below the floor. */
	readonly check: () => Promise<void>;
	readonly checkEveryBytes: number;
}

export class OpenRecording implements RecordingFile {
	readonly #options: OpenRecordingOptions;
	#hash: Hash = createHash('sha256');
	#bytes = 0;
	#uncheckedBytes = 0;
	#isDirty = false;

	constructor(options: OpenRecordingOptions) {
		this.#options = options;
	}

	get bytes(): number {
		return this.#bytes;
	}

	async append(text: string): Promise<void> {
		const { file, check, checkEveryBytes } = this.#options;
		const bytes = Buffer.from(text, 'utf8');
		this.#uncheckedBytes += bytes.length;
		try {
			if (this.#uncheckedBytes >= checkEveryBytes) {
				await check();
				this.#uncheckedBytes = 0;
			}
			for (let written = 0; written < bytes.length; ) {
				const { bytesWritten } = await file.write(bytes, written, bytes.length - written, this.#bytes + written);
				written += bytesWritten;
			}
		} catch (error) {
			// Half a line may be there; a crash before the next append finds it torn.
			await file.truncate(this.#bytes).catch(() => {});
			throw diskError(error);
		}
		this.#hash.update(bytes);
		this.#bytes += bytes.length;
		this.#isDirty = true;
	}

	async sync(): Promise<void> {
		if (!this.#isDirty) return;
		this.#isDirty = false;
		await this.#options.file.datasync();
	}

	async seal(): Promise<SealedFile> {
		const { file, path, sealedPath, freeRoom, note } = this.#options;
		await file.truncate(this.#bytes);
		await file.chmod(0o400);
		await file.sync();
		await file.close();
		const sha256 = this.#hash.digest('hex');
		const target = sealedPath(sha256);
		await freeRoom();
		await note(sha256);
		await mkdir(dirname(target), { recursive: true, mode: 0o700 });
		await rename(path, target);
		await syncFolder(dirname(target));
		return { sha256, bytes: this.#bytes };
	}

	async close(): Promise<void> {
		await this.sync().catch(() => {});
		await this.#options.file.close();
	}

	/** After a crash: up to the last line that is whole and an event. What follows is cut. */
	async takeUp(): Promise<Scanned> {
		const scanned = await scanRecording(this.#options.file);
		this.#hash = scanned.hash;
		this.#bytes = scanned.bytes;
		await this.#options.file.truncate(scanned.bytes);
		return scanned;
	}
}

export async function syncFolder(folder: string): Promise<void> {
	await using handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
	await handle.sync();
}
