import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, lstat, open, readdir, rename, rm } from 'node:fs/promises';
import { type Clock, sleep } from '../kit/clock.ts';
import { isSameProcess, type ProcessIdentity } from '../kit/process-identity.ts';
import { bytesOf, type CopyEntry, shownPath } from './copy-entry.ts';
import { about, refuse } from './file-error.ts';

/**
 * A file that isn't whole yet, beside the one that it will become: `.<name>.<pid>-<start time>-<boot>.gpuaas-partial`,
 * readable by its owner alone. The name says who writes it, so that the next copy can take over what a killed one left
 * and leaves alone what another is writing. In a home that several machines share that one may run on another, where we
 * can't look: what was written to a moment ago is its own. Nothing of it is under the final name before it is whole and durable.
 */
const SUFFIX = '.gpuaas-partial';
const NAME_BYTES_MAX = 255;
const OWNER = /^\.(\d{1,10})-(\d{1,20})-([0-9a-f-]{36})\.gpuaas-partial$/;
const CHUNK_BYTES = 1024 * 1024;
/** Who was told to end is gone by then; who really writes is not, and keeps its file. */
const WRITER_ENDS_MS = 2000;
const LOOK_MS = 50;
/** Whoever writes on another machine has written something, or is gone, by then. */
const QUIET_MS = 600_000;

export class PartialFile {
	readonly path: string;
	/** What people call it, also where something goes wrong before it is whole. */
	readonly #target: string;
	readonly #file: FileHandle;
	#hash: Hash;
	#bytes: number;

	private constructor(path: string, target: string, file: FileHandle, hash: Hash, bytes: number) {
		this.path = path;
		this.#target = target;
		this.#file = file;
		this.#hash = hash;
		this.#bytes = bytes;
	}

	/** Takes over what an earlier copy of `target` left, when it isn't longer than `sizeMax`; else begins an empty one. */
	static async open(target: string, sizeMax: number, owner: ProcessIdentity, clock: Clock): Promise<PartialFile> {
		const { folder, stem } = placeOf(target);
		const path = `${folder}${stem}.${owner.pid}-${owner.startTimeTicks}-${owner.bootId}${SUFFIX}`;
		const endMs = clock.monotonic() + WRITER_ENDS_MS;
		const claimed = () => claim(folder, stem, path, owner.bootId, clock.now() - QUIET_MS);
		while ((await claimed()) === 'busy' && clock.monotonic() < endMs) await sleep(clock, LOOK_MS);
		const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
		return await about(target, async () => {
			const file = await open(bytesOf(path), flags, 0o600);
			try {
				const { size } = await file.stat();
				const bytes = size > sizeMax ? 0 : size;
				const partial = new PartialFile(path, target, file, createHash('sha256'), bytes);
				if (bytes === 0) await partial.restart();
				else await partial.#hashAll();
				return partial;
			} catch (error) {
				await file.close();
				throw error;
			}
		});
	}

	get bytes(): number {
		return this.#bytes;
	}

	/** Of what is there. */
	sha256(): string {
		return this.#hash.copy().digest('hex');
	}

	async restart(): Promise<void> {
		await this.#file.truncate(0);
		this.#hash = createHash('sha256');
		this.#bytes = 0;
	}

	/** A run of zeros becomes a hole: sparse files stay sparse. */
	async append(data: Uint8Array): Promise<void> {
		await about(this.#target, async () => {
			const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
			if (!isZero(bytes)) {
				for (let written = 0; written < bytes.length; ) {
					const { bytesWritten } = await this.#file.write(
						bytes,
						written,
						bytes.length - written,
						this.#bytes + written,
					);
					written += bytesWritten;
				}
			}
		});
		this.#hash.update(data);
		this.#bytes += data.length;
	}

	/**
	 * Durable, with its mode and time, under its final name. Without `force` a file that appeared there meanwhile stays:
	 * FILE_EXISTS.
	 */
	async commit(target: string, { mode, mtimeMs }: CopyEntry, force: boolean): Promise<void> {
		await about(target, async () => {
			await this.#file.truncate(this.#bytes);
			await this.#file.chmod(mode);
			await this.#file.utimes(mtimeMs / 1000, mtimeMs / 1000);
			await this.#file.sync();
			await this.#file.close();
			if (force) await rename(bytesOf(this.path), bytesOf(target));
			else await renameToNew(this.path, target);
			await syncFolder(placeOf(target).folder);
		});
	}

	/** Keeps it for the next copy. */
	async leave(): Promise<void> {
		await this.#file.close().catch(() => {});
	}

	async remove(): Promise<void> {
		await this.leave();
		await rm(bytesOf(this.path), { force: true }).catch(() => {});
	}

	async #hashAll(): Promise<void> {
		const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
		for (let at = 0; at < this.#bytes; ) {
			const { bytesRead } = await this.#file.read(buffer, 0, Math.min(CHUNK_BYTES, this.#bytes - at), at);
			if (bytesRead === 0)
				throw refuse('ABORTED', 'FILE_CHANGED', `what was there of ${shownPath(this.#target)} changed; copy again`);
			this.#hash.update(buffer.subarray(0, bytesRead));
			at += bytesRead;
		}
	}
}

/** Another process may take it first; then there is nothing to take over. */
async function claim(
	folder: string,
	stem: string,
	own: string,
	ownBootId: string,
	quietSinceMs: number,
): Promise<'taken' | 'busy' | 'none'> {
	let found: 'busy' | 'none' = 'none';
	const place = folder === '' ? '.' : folder;
	for (const name of await about(place, () => readdir(bytesOf(place), 'latin1'))) {
		const [, pid, ticks, bootId] = name.startsWith(stem) ? (OWNER.exec(name.slice(stem.length)) ?? []) : [];
		if (pid === undefined || ticks === undefined || bootId === undefined) continue;
		const writer = { pid: Number(pid), startTimeTicks: Number(ticks), bootId };
		const path = bytesOf(`${folder}${name}`);
		const stats = await lstat(path).catch(() => undefined);
		// Only what we could have written ourselves: a link or somebody else's file is a trap.
		if (stats?.isFile() !== true || stats.nlink !== 1 || stats.uid !== process.getuid?.()) continue;
		if (isSameProcess(writer)) {
			found = 'busy';
			continue;
		}
		if (bootId !== ownBootId && stats.mtimeMs > quietSinceMs) continue;
		const taken = await rename(path, bytesOf(own)).then(
			() => true,
			() => false,
		);
		if (taken) return 'taken';
	}
	return found;
}

function placeOf(target: string): { readonly folder: string; readonly stem: string } {
	const at = target.lastIndexOf('/') + 1;
	const name = target.slice(at);
	// Pid, start time and boot id take 70 bytes.
	const stem = name.length <= NAME_BYTES_MAX - 90 ? name : createHash('sha256').update(bytesOf(name)).digest('hex');
	return { folder: target.slice(0, at), stem: `.${stem}` };
}

/** link(2) fails where rename(2) would overwrite; a file system without links gets the check of before. */
async function renameToNew(from: string, to: string): Promise<void> {
	try {
		await link(bytesOf(from), bytesOf(to));
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code === 'EEXIST') throw exists(to);
		await rename(bytesOf(from), bytesOf(to));
		return;
	}
	await rm(bytesOf(from));
}

export function exists(path: string): Error {
	return refuse(
		'ALREADY_EXISTS',
		'FILE_EXISTS',
		`${shownPath(path)} is there already and nothing was changed; to replace it copy with --force`,
	);
}

async function syncFolder(folder: string): Promise<void> {
	const handle = await open(bytesOf(folder === '' ? '.' : folder), constants.O_RDONLY | constants.O_DIRECTORY);
	try {
		await handle.sync();
	} catch {
		// Some file systems sync no folders: then the rename is as durable as they make it.
	} finally {
		await handle.close();
	}
}

const ZEROS = Buffer.alloc(4096);

function isZero(bytes: Buffer): boolean {
	for (let at = 0; at < bytes.length; at += ZEROS.length) {
		const part = bytes.subarray(at, at + ZEROS.length);
		if (!part.equals(part.length === ZEROS.length ? ZEROS : ZEROS.subarray(0, part.length))) return false;
	}
	return true;
}
