import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, opendir, readlink, stat } from 'node:fs/promises';
import { buffersCame } from '../kit/young-garbage.ts';
import { byteString, bytesOf, type CopyEntry, entryDocument, firstName, shownPath } from './copy-entry.ts';
import { COPY_FRAME, CopyLink, positionOf } from './copy-frames.ts';
import { about, refuse } from './file-error.ts';
import { FRAME_PAYLOAD_BYTES_MAX } from './frame.ts';
import type { BytePipe } from './pipe.ts';

/**
 * The side that has the files: the helper on a node for a download, the command for an upload. It reads what it was told
 * to and nothing else, with the rights of its own process. Links below the named path are sent as links, never
 * followed; the named path itself may be one, as with cp(1).
 */
export interface CopySource {
	/** As a person wrote it, UTF-8; relative to the working directory. */
	readonly path: string;
	readonly recursive: boolean;
}

export interface CopyProgress {
	/** For people. */
	readonly path: string;
	/** Of this file, there already or arrived. */
	readonly bytes: number;
	readonly size: number;
	readonly state: 'copying' | 'done' | 'unchanged' | 'skipped';
	/** Why it was skipped. */
	readonly message?: string;
}

export type OnProgress = (progress: CopyProgress) => void;

/** Resolves when the other side has everything; throws why it hasn't. */
export async function sendTree(pipe: BytePipe, source: CopySource, onProgress: OnProgress): Promise<void> {
	const link = new CopyLink(pipe);
	try {
		for await (const found of walk(source)) {
			const skipped = found.kind === 'skipped' ? found : await sendEntry(link, found.path, found.entry, onProgress);
			if (skipped === undefined) continue;
			const message = `${shownPath(skipped.names.join('/'))} ${skipped.why}`;
			onProgress({ path: shownPath(skipped.path), bytes: 0, size: 0, state: 'skipped', message });
			await link.send(COPY_FRAME.warning, { message: message.slice(0, 1024) });
		}
		await link.send(COPY_FRAME.finish);
		await link.expect(COPY_FRAME.finished);
	} catch (error) {
		await link.refuse(error);
		throw error;
	}
}

interface Skipped {
	readonly kind: 'skipped';
	readonly path: string;
	readonly names: readonly string[];
	readonly why: string;
}

type Found = { readonly kind: 'entry'; readonly path: string; readonly entry: CopyEntry } | Skipped;

/** Whoever works in a folder while it is copied removes files, too: that costs no more than those. */
function removed(path: string, names: readonly string[]): Skipped {
	return { kind: 'skipped', path, names, why: 'was removed meanwhile' };
}

/** Undefined for what isn't there any more; what was named must be there. */
async function unlessRemoved<T>(
	path: string,
	names: readonly string[],
	work: () => Promise<T>,
): Promise<T | undefined> {
	return await about(path, () =>
		work().catch((error: NodeJS.ErrnoException) => {
			if (names.length > 1 && error.code === 'ENOENT') return undefined;
			throw error;
		}),
	);
}

async function* walk({ path, recursive }: CopySource): AsyncGenerator<Found> {
	const root = byteString(path === '' ? '.' : path);
	const stats = await about(root, () => stat(bytesOf(root)));
	if (stats.isDirectory() && !recursive)
		throw refuse('FAILED_PRECONDITION', 'FILE_UNSUPPORTED', `${path} is a folder; copy it with --recursive`);
	yield* walkAt(root, [firstName(path)], stats);
}

async function* walkAt(
	path: string,
	names: readonly string[],
	stats: Awaited<ReturnType<typeof stat>>,
): AsyncGenerator<Found> {
	const kind = stats.isFile()
		? 'file'
		: stats.isDirectory()
			? 'directory'
			: stats.isSymbolicLink()
				? 'link'
				: undefined;
	if (kind === undefined) {
		yield { kind: 'skipped', path, names, why: 'is neither a file, a folder nor a link' };
		return;
	}
	const target = kind === 'link' ? await unlessRemoved(path, names, () => readlink(bytesOf(path), 'latin1')) : '';
	if (target === undefined) return yield removed(path, names);
	const size = kind === 'file' ? Number(stats.size) : 0;
	const mode = Number(stats.mode) & 0o777;
	yield { kind: 'entry', path, entry: { names, kind, mode, mtimeMs: Number(stats.mtimeMs), size, target } };
	if (kind !== 'directory') return;
	const folder = await unlessRemoved(path, names, () =>
		opendir(bytesOf(path) as unknown as string, { encoding: 'latin1' as BufferEncoding }),
	);
	if (folder === undefined) return yield removed(path, names);
	for await (const { name } of folder) {
		const [below, namesBelow] = [`${path}/${name}`, [...names, name]];
		const statsBelow = await unlessRemoved(below, namesBelow, () => lstat(bytesOf(below)));
		if (statsBelow === undefined) yield removed(below, namesBelow);
		else yield* walkAt(below, namesBelow, statsBelow);
	}
}

async function sendEntry(
	link: CopyLink,
	path: string,
	entry: CopyEntry,
	onProgress: OnProgress,
): Promise<Skipped | undefined> {
	if (entry.kind !== 'file') {
		await link.send(COPY_FRAME.entry, entryDocument(entry));
		await link.expect(COPY_FRAME.done);
		return undefined;
	}
	// O_NONBLOCK: a FIFO put there meanwhile must not hang us.
	const flags = constants.O_RDONLY | constants.O_NONBLOCK | (entry.names.length > 1 ? constants.O_NOFOLLOW : 0);
	const file = await unlessRemoved(path, entry.names, () => open(bytesOf(path), flags));
	if (file === undefined) return removed(path, entry.names);
	try {
		const stats = await file.stat();
		if (!stats.isFile())
			throw refuse('ABORTED', 'FILE_CHANGED', `${shownPath(path)} was replaced meanwhile; copy again`);
		// What is added while we read belongs to the next copy.
		const opened = { ...entry, size: stats.size, mtimeMs: stats.mtimeMs };
		await link.send(COPY_FRAME.entry, entryDocument(opened));
		await sendFile(link, file, path, opened.size, onProgress);
		return undefined;
	} finally {
		await file.close();
	}
}

async function sendFile(
	link: CopyLink,
	file: FileHandle,
	path: string,
	size: number,
	onProgress: OnProgress,
): Promise<void> {
	const shown = { path: shownPath(path), size };
	let answer = await link.expect(COPY_FRAME.want, COPY_FRAME.have);
	if (answer.type === COPY_FRAME.have) {
		const there = positionOf(answer);
		const isSame = there.bytes === size && (await hashTo(file, path, size)).copy().digest('hex') === there.sha256;
		await link.send(isSame ? COPY_FRAME.same : COPY_FRAME.differs);
		answer = await link.expect(COPY_FRAME.want, COPY_FRAME.done);
		if (answer.type === COPY_FRAME.done) {
			onProgress({ ...shown, bytes: size, state: 'unchanged' });
			return;
		}
	}
	const start = await startOf(file, path, size, positionOf(answer));
	await link.send(COPY_FRAME.start, { bytes: start.offset, sha256: start.hash.copy().digest('hex') });
	onProgress({ ...shown, bytes: start.offset, state: 'copying' });
	for await (const chunk of readFrom(file, path, start.offset, size)) {
		start.hash.update(chunk.data);
		await link.sendData(chunk.data);
		onProgress({ ...shown, bytes: chunk.end, state: 'copying' });
	}
	await link.send(COPY_FRAME.end, { bytes: size, sha256: start.hash.digest('hex') });
	await link.expect(COPY_FRAME.done);
	onProgress({ ...shown, bytes: size, state: 'done' });
}

/** Goes on behind what the receiver has only when that is the beginning of this very file. */
async function startOf(
	file: FileHandle,
	path: string,
	size: number,
	there: { readonly bytes: number; readonly sha256: string },
): Promise<{ readonly offset: number; readonly hash: Hash }> {
	if (there.bytes > 0 && there.bytes <= size) {
		const hash = await hashTo(file, path, there.bytes);
		if (hash.copy().digest('hex') === there.sha256) return { offset: there.bytes, hash };
	}
	return { offset: 0, hash: createHash('sha256') };
}

async function hashTo(file: FileHandle, path: string, end: number): Promise<Hash> {
	const hash = createHash('sha256');
	for await (const { data } of readFrom(file, path, 0, end)) hash.update(data);
	return hash;
}

async function* readFrom(file: FileHandle, path: string, from: number, end: number) {
	for (let at = from; at < end; ) {
		const buffer = Buffer.allocUnsafe(Math.min(FRAME_PAYLOAD_BYTES_MAX, end - at));
		const { bytesRead } = await about(path, () => file.read(buffer, 0, buffer.length, at));
		buffersCame(bytesRead);
		if (bytesRead === 0)
			throw refuse('ABORTED', 'FILE_CHANGED', `${shownPath(path)} became shorter while it was read; copy again`);
		at += bytesRead;
		yield { data: buffer.subarray(0, bytesRead), end: at };
	}
}
