import { createHash } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { lstat, mkdir, open, readlink, stat, statfs, symlink, unlink } from 'node:fs/promises';
import type { Clock } from '../kit/clock.ts';
import type { ProcessIdentity } from '../kit/process-identity.ts';
import { byteString, bytesOf, type CopyEntry, decodeEntry, firstName, shownPath } from './copy-entry.ts';
import { COPY_FRAME, CopyLink, documentOf, positionOf } from './copy-frames.ts';
import type { OnProgress } from './copy-sender.ts';
import { about, refuse } from './file-error.ts';
import { protocolError } from './frame.ts';
import { exists, Leftovers, PartialFile } from './partial-file.ts';
import type { BytePipe } from './pipe.ts';

/**
 * The side that gets the files: the command for a download, the helper on a node for an upload. Whatever the other side
 * says, it writes below the named destination only, under the name that was asked for, through folders that it looked
 * at, and replaces nothing without `force`. Links are made last, when nothing more can be written through them.
 */
export interface CopyDestination {
	/** As a person wrote it, UTF-8; relative to the working directory. An existing folder takes the thing into it. */
	readonly path: string;
	readonly force: boolean;
	/** Refuses to begin a file that would leave less free than this. */
	readonly freeFloorBytes: number;
	/** Names partial files. */
	readonly owner: ProcessIdentity;
	/** For the writer of a partial file that is about to end. */
	readonly clock: Clock;
	/** What the receiver asked for; undefined where the sender is the one who asks, as with an upload. */
	readonly asked: CopyRequest | undefined;
}

export interface CopyRequest {
	/** The path at the sender, as the receiver wrote it. */
	readonly path: string;
	/** Without it one file comes, and nothing else. */
	readonly recursive: boolean;
}

const FOLDER_FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
const SET_GROUP_ID = 0o2000;
/** Links are kept in memory until the end. */
const LINKS_MAX = 100_000;
/** Between two looks at the free space of a file that is written. */
const SPACE_CHECK_BYTES = 64 * 1024 * 1024;

export async function receiveTree(pipe: BytePipe, destination: CopyDestination, onProgress: OnProgress): Promise<void> {
	const link = new CopyLink(pipe);
	try {
		const receiver = new Receiver(link, destination, onProgress, await rootOf(destination.path));
		await receiver.run();
	} catch (error) {
		await link.refuse(error);
		throw error;
	}
}

interface Root {
	/** Byte string: the folder that takes the thing, or the thing's own new path. */
	readonly path: string;
	readonly isFolder: boolean;
}

async function rootOf(path: string): Promise<Root> {
	const root = byteString(path === '' ? '.' : path);
	const found = await stat(bytesOf(root)).catch(() => undefined);
	if (found?.isDirectory() === true) return { path: root.replace(/\/+$/, '') || '/', isFolder: true };
	if (root.endsWith('/')) throw refuse('NOT_FOUND', 'FILE_NOT_FOUND', `there is no folder ${path}; make it first`);
	const parent = root.includes('/') ? root.slice(0, root.lastIndexOf('/')) || '/' : '.';
	await about(parent, () => stat(bytesOf(parent)));
	return { path: root, isFolder: false };
}

class Receiver {
	readonly #link: CopyLink;
	readonly #destination: CopyDestination;
	readonly #onProgress: OnProgress;
	readonly #root: Root;
	readonly #leftovers = new Leftovers();
	readonly #links: { readonly path: string; readonly target: string }[] = [];
	/** Modes and times of folders: set last, because what is put into them changes the time, and may need the right to write. */
	readonly #folders: { readonly path: string; readonly entry: CopyEntry }[] = [];

	constructor(link: CopyLink, destination: CopyDestination, onProgress: OnProgress, root: Root) {
		this.#link = link;
		this.#destination = destination;
		this.#onProgress = onProgress;
		this.#root = root;
	}

	async run(): Promise<void> {
		try {
			await this.#receiveAll();
		} catch (error) {
			// The next run takes them for its destination's own, and goes on in them.
			await this.#finishFolders(0o700).catch(() => {});
			throw error;
		}
		for (const { path, target } of this.#links) await this.#makeLink(path, target);
		await this.#finishFolders(0);
		await this.#link.send(COPY_FRAME.finished);
	}

	async #receiveAll(): Promise<void> {
		for (;;) {
			const frame = await this.#link.expect(COPY_FRAME.entry, COPY_FRAME.warning, COPY_FRAME.finish);
			if (frame.type === COPY_FRAME.finish) return;
			if (frame.type === COPY_FRAME.warning) {
				const { message } = documentOf(frame);
				this.#onProgress({ path: '', bytes: 0, size: 0, state: 'skipped', message: String(message).slice(0, 1024) });
				continue;
			}
			const entry = decodeEntry(frame);
			this.#assertAsked(entry);
			const path = await this.#pathOf(entry);
			if (entry.kind === 'file') await this.#file(path, entry);
			else {
				if (entry.kind === 'directory') await this.#folder(path, entry);
				else await this.#keepLink(path, entry);
				await this.#link.send(COPY_FRAME.done);
			}
		}
	}

	async #finishFolders(moreMode: number): Promise<void> {
		for (const { path, entry } of this.#folders.toReversed()) {
			await about(path, async () => {
				// Somebody may have put a link there meanwhile, to what its owner keeps shut.
				await using folder = await open(bytesOf(path), FOLDER_FLAGS);
				await folder.utimes(entry.mtimeMs / 1000, entry.mtimeMs / 1000);
				// The group that a shared folder hands on (its set-group-ID bit) is the destination's, not the sender's.
				const inherited = (await folder.stat()).mode & SET_GROUP_ID;
				await folder.chmod(entry.mode | moreMode | inherited);
			});
		}
	}

	/** A sender that chose the names could put a `.bashrc` into a home for a `report.csv` (CVE-2019-6111). */
	#assertAsked({ names, kind }: CopyEntry): void {
		const { asked } = this.#destination;
		if (asked === undefined) return;
		const isTop = names.length === 1;
		// A named path that is a link is followed by its sender: a link never comes first.
		const isOfItsKind = asked.recursive ? !isTop || kind !== 'link' : isTop && kind === 'file';
		if (names[0] !== firstName(asked.path) || !isOfItsKind)
			throw protocolError(`${shownPath(names.join('/'))} (${kind}) came, which was not asked for`);
	}

	/** Every folder on the way must be one, and not a link: a sender may have named a link's target before. */
	async #pathOf({ names }: CopyEntry): Promise<string> {
		const [first = '', ...rest] = names;
		const top = this.#root.isFolder ? `${this.#root.path === '/' ? '' : this.#root.path}/${first}` : this.#root.path;
		let path = top;
		for (const name of rest) {
			const stats = await about(path, () => lstat(bytesOf(path)));
			if (!stats.isDirectory())
				throw refuse('FAILED_PRECONDITION', 'FILE_UNSUPPORTED', `${shownPath(path)} is not a folder; move it away`);
			path = `${path}/${name}`;
		}
		return path;
	}

	async #folder(path: string, entry: CopyEntry): Promise<void> {
		const isNew = await about(path, () =>
			mkdir(bytesOf(path), 0o700).then(
				() => true,
				(error: NodeJS.ErrnoException) => {
					if (error.code === 'EEXIST') return false;
					throw error;
				},
			),
		);
		// One that was there, or that another copy made meanwhile, keeps its own.
		if (isNew) this.#folders.push({ path, entry });
		else if ((await statOf(path))?.isDirectory() !== true) throw exists(path);
	}

	async #keepLink(path: string, { target }: CopyEntry): Promise<void> {
		const there = await statOf(path);
		if (there?.isSymbolicLink() === true && (await readlink(bytesOf(path), 'latin1')) === target) return;
		if (there !== undefined && (!this.#destination.force || there.isDirectory())) throw exists(path);
		if (this.#links.length >= LINKS_MAX)
			throw refuse('RESOURCE_EXHAUSTED', 'FILE_UNSUPPORTED', `there are more than ${LINKS_MAX} links; copy in parts`);
		this.#links.push({ path, target });
	}

	async #makeLink(path: string, target: string): Promise<void> {
		await about(path, async () => {
			try {
				if (this.#destination.force) await unlink(bytesOf(path)).catch(ifNone);
				await symlink(bytesOf(target), bytesOf(path));
			} catch (error) {
				if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
				// Another copy made it meanwhile.
				if ((await readlink(bytesOf(path), 'latin1').catch(() => undefined)) !== target) throw exists(path);
			}
		});
	}

	async #file(path: string, entry: CopyEntry): Promise<void> {
		const shown = { path: shownPath(path), size: entry.size };
		const there = await statOf(path);
		if (there !== undefined && (await this.#isSame(path, there, entry))) {
			await this.#link.send(COPY_FRAME.done);
			this.#onProgress({ ...shown, bytes: entry.size, state: 'unchanged' });
			return;
		}
		if (there !== undefined && (!this.#destination.force || there.isDirectory())) throw exists(path);
		const partial = await PartialFile.open(path, entry.size, this.#destination.owner, this.#destination.clock, {
			leftovers: this.#leftovers,
		});
		try {
			await this.#checkSpace(path, entry.size - partial.bytes);
			await this.#receive(partial, shown, entry);
			await partial.commit(path, entry, this.#destination.force);
		} catch (error) {
			// What can be gone on with is kept; what was wrong or fills the disk is not.
			if ((error as { reason?: string }).reason === 'COPY_INTERRUPTED') await partial.leave();
			else await partial.remove();
			throw error;
		}
		await this.#link.send(COPY_FRAME.done);
		this.#onProgress({ ...shown, bytes: entry.size, state: 'done' });
	}

	/** A copy that was cut between two files finds the first ones done. */
	async #isSame(path: string, there: Stats, entry: CopyEntry): Promise<boolean> {
		if (!there.isFile() || there.size !== entry.size) return false;
		const sha256 = await about(path, () => sha256Of(path)).catch(() => undefined);
		if (sha256 === undefined) return false;
		await this.#link.send(COPY_FRAME.have, { bytes: there.size, sha256 });
		return (await this.#link.expect(COPY_FRAME.same, COPY_FRAME.differs)).type === COPY_FRAME.same;
	}

	async #receive(partial: PartialFile, shown: { path: string; size: number }, entry: CopyEntry): Promise<void> {
		await this.#link.send(COPY_FRAME.want, { bytes: partial.bytes, sha256: partial.sha256() });
		const start = positionOf(await this.#link.expect(COPY_FRAME.start));
		if (start.bytes !== partial.bytes || start.sha256 !== partial.sha256()) {
			if (start.bytes !== 0) throw protocolError('a file begins where nobody is');
			await partial.restart();
		}
		this.#onProgress({ ...shown, bytes: partial.bytes, state: 'copying' });
		let uncheckedBytes = 0;
		for (;;) {
			const frame = await this.#link.expect(COPY_FRAME.data, COPY_FRAME.end);
			if (frame.type === COPY_FRAME.end) {
				const end = positionOf(frame);
				if (end.bytes !== partial.bytes || end.bytes !== entry.size || end.sha256 !== partial.sha256())
					throw mismatch(shown.path);
				return;
			}
			if (partial.bytes + frame.payload.length > entry.size) throw protocolError('more came than was announced');
			await partial.append(frame.payload);
			uncheckedBytes += frame.payload.length;
			if (uncheckedBytes >= SPACE_CHECK_BYTES) {
				uncheckedBytes = 0;
				await this.#checkSpace(partial.path, 0);
			}
			this.#onProgress({ ...shown, bytes: partial.bytes, state: 'copying' });
		}
	}

	async #checkSpace(path: string, moreBytes: number): Promise<void> {
		const folder = path.includes('/') ? path.slice(0, path.lastIndexOf('/')) || '/' : '.';
		const { bavail, bsize } = await about(path, () => statfs(bytesOf(folder)));
		const freeBytes = bavail * bsize;
		if (freeBytes - moreBytes >= this.#destination.freeFloorBytes) return;
		throw refuse(
			'RESOURCE_EXHAUSTED',
			'DISK_FULL',
			`${shownPath(path)} needs ${moreBytes} bytes more, ${freeBytes} are free and ${this.#destination.freeFloorBytes} must stay free; free space there and copy again`,
		);
	}
}

async function statOf(path: string): Promise<Stats | undefined> {
	return await about(path, () => lstat(bytesOf(path)).catch(ifNone));
}

function ifNone(error: NodeJS.ErrnoException): undefined {
	if (error.code !== 'ENOENT') throw error;
	return undefined;
}

async function sha256Of(path: string): Promise<string> {
	const hash = createHash('sha256');
	await using file = await open(bytesOf(path), 'r');
	for await (const chunk of file.createReadStream({ autoClose: false, highWaterMark: 256 * 1024 }))
		hash.update(chunk as Buffer);
	return hash.digest('hex');
}

function mismatch(path: string): Error {
	return refuse(
		'DATA_LOSS',
		'FILE_CHECKSUM_MISMATCH',
		`what arrived of ${path} is not what was sent (SHA-256 differs), so nothing of it was kept; copy again`,
	);
}
