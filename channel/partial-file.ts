import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, open, readdir, rename, rm } from 'node:fs/promises';
import { type Clock, sleep } from '../kit/clock.ts';
import { hex, type Rng, systemRng } from '../kit/ids.ts';
import { isSameProcess, type ProcessIdentity } from '../kit/process-identity.ts';
import { bytesOf, type CopyEntry, shownPath } from './copy-entry.ts';
import { about, refuse } from './file-error.ts';

/**
 * A file that isn't whole yet, beside the one that it will become: `.<name>.<pid>-<start time>-<boot>-<random>.gpuaas-partial`,
 * readable by its owner alone. The name says who writes it, so that the next copy can take over what a killed one left
 * and leaves alone what another is writing. In a home that several machines share that one may run on another, where we
 * can't look: what was written to a moment ago is its own. Nothing of it is under the final name before it is whole and durable.
 * Others may write in that folder too: a new one is made by us alone (O_EXCL), one that is taken over is looked at once it is open.
 */
const SUFFIX = '.gpuaas-partial';
const NAME_BYTES_MAX = 255;
const OWNER = /^\.(\d{1,10})-(\d{1,20})-([0-9a-f-]{36})-[0-9a-f]{16}\.gpuaas-partial$/;
const RANDOM_BYTES = 8;
/** Of its owner alone: what others may open, they may have open already, and would read what is written to it. */
const MODE = 0o600;
const CHUNK_BYTES = 1024 * 1024;
/** Who was told to end is gone by then; who really writes is not, and keeps its file. */
const WRITER_ENDS_MS = 2000;
const LOOK_MS = 50;
/** Whoever writes on another machine has written something, or is gone, by then. */
const QUIET_MS = 600_000;
/** Nobody foretells 64 random bits once. */
const CREATE_ATTEMPTS = 3;

/**
 * What earlier copies left, by folder. A folder is listed once: with a listing for each file a folder of many costs their
 * square. Who began after that is no ended copy.
 */
export class Leftovers {
	readonly #list: (folder: string) => Promise<readonly string[]>;
	readonly #byFolder = new Map<string, readonly string[]>();

	constructor(list = (folder: string): Promise<readonly string[]> => readdir(bytesOf(folder), 'latin1')) {
		this.#list = list;
	}

	async of({ folder, stem }: Place): Promise<readonly string[]> {
		const place = folder === '' ? '.' : folder;
		let names = this.#byFolder.get(place);
		if (names === undefined) {
			names = (await about(place, () => this.#list(place))).filter((name) => name.endsWith(SUFFIX));
			this.#byFolder.set(place, names);
		}
		return names.filter((name) => name.startsWith(stem));
	}
}

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
	static async open(
		target: string,
		sizeMax: number,
		owner: ProcessIdentity,
		clock: Clock,
		{ rng = systemRng, leftovers = new Leftovers() }: { rng?: Rng; leftovers?: Leftovers } = {},
	): Promise<PartialFile> {
		const place = placeOf(target);
		const name = () =>
			`${place.folder}${place.stem}.${owner.pid}-${owner.startTimeTicks}-${owner.bootId}-${hex(rng.bytes(RANDOM_BYTES))}${SUFFIX}`;
		const endMs = clock.monotonic() + WRITER_ENDS_MS;
		for (;;) {
			const path = name();
			const taken = await claim(place, await leftovers.of(place), path, owner.bootId, clock.now() - QUIET_MS);
			if (taken === 'busy' && clock.monotonic() < endMs) await sleep(clock, LOOK_MS);
			else if (taken === 'busy' || taken === 'none') break;
			else return await PartialFile.#of(path, target, taken, sizeMax);
		}
		const { path, file } = await about(target, () => create(name));
		return await PartialFile.#of(path, target, file, sizeMax);
	}

	static async #of(path: string, target: string, file: FileHandle, sizeMax: number): Promise<PartialFile> {
		return await about(target, async () => {
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
			await this.#file.utimes(mtimeMs / 1000, mtimeMs / 1000);
			await this.#file.sync();
			// Only now: a copy that is killed while it syncs is taken over by the next, which wants MODE.
			await this.#file.chmod(mode);
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

/** Only one that nobody made before: whoever may write in the folder could have put a file of their own, or a link, there. */
async function create(name: () => string): Promise<{ readonly path: string; readonly file: FileHandle }> {
	const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
	for (let attempt = 1; ; attempt += 1) {
		const path = name();
		try {
			return { path, file: await open(bytesOf(path), flags, MODE) };
		} catch (error) {
			if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || attempt === CREATE_ATTEMPTS) throw error;
		}
	}
}

/** What an ended process left, open and under the name `own`. Another may take it first; then there is nothing to take over. */
async function claim(
	{ folder, stem }: Place,
	names: readonly string[],
	own: string,
	ownBootId: string,
	quietSinceMs: number,
): Promise<FileHandle | 'busy' | 'none'> {
	let found: 'busy' | 'none' = 'none';
	for (const name of names) {
		const [, pid, ticks, bootId] = OWNER.exec(name.slice(stem.length)) ?? [];
		if (pid === undefined || ticks === undefined || bootId === undefined) continue;
		const path = bytesOf(`${folder}${name}`);
		const file = await openOwn(path);
		if (file === undefined) continue;
		const isBusy = isSameProcess({ pid: Number(pid), startTimeTicks: Number(ticks), bootId });
		if (isBusy) found = 'busy';
		const isQuiet = bootId === ownBootId || (await file.stat()).mtimeMs <= quietSinceMs;
		const isTaken =
			!isBusy &&
			isQuiet &&
			(await rename(path, bytesOf(own)).then(
				() => true,
				() => false,
			));
		if (isTaken) return file;
		await file.close();
	}
	return found;
}

/** Only what we could have written ourselves: a link, somebody else's file or one that others may read is a trap. */
async function openOwn(path: Buffer): Promise<FileHandle | undefined> {
	// O_NONBLOCK: a FIFO must not hang us.
	const flags = constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK;
	const file = await open(path, flags).catch(() => undefined);
	if (file === undefined) return undefined;
	const { uid, nlink, mode } = await file.stat();
	if (mode === (constants.S_IFREG | MODE) && nlink === 1 && uid === process.geteuid?.()) return file;
	await file.close();
	return undefined;
}

interface Place {
	readonly folder: string;
	readonly stem: string;
}

function placeOf(target: string): Place {
	const at = target.lastIndexOf('/') + 1;
	const name = target.slice(at);
	// What says who writes it takes up to 101 bytes.
	const stem = name.length <= NAME_BYTES_MAX - 102 ? name : createHash('sha256').update(bytesOf(name)).digest('hex');
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
