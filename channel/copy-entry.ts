import { basename } from 'node:path';
import { documentOf } from './copy-frames.ts';
import type { Frame } from './frame.ts';
import { protocolError } from './frame.ts';

/**
 * A file, folder or link as its sender describes it. Paths are byte strings: one character a byte (latin1), so that names
 * that aren't UTF-8 survive; `bytesOf` gives what the file system takes.
 */
export interface CopyEntry {
	/** Names from the copied thing itself downward, never empty. */
	readonly names: readonly string[];
	readonly kind: 'file' | 'directory' | 'link';
	/** Permission bits only: a set-user-ID bit doesn't travel. */
	readonly mode: number;
	readonly mtimeMs: number;
	/** Of a file. */
	readonly size: number;
	/** Of a link, as a byte string. */
	readonly target: string;
}

/** Linux: NAME_MAX and PATH_MAX. */
const NAME_BYTES_MAX = 255;
const PATH_BYTES_MAX = 4096;
const DEPTH_MAX = 256;
/** Year 9999: later times can't be set, and come from damaged file systems. */
const TIME_MS_MAX = 253_402_300_799_999;

/** The document that travels. */
export function entryDocument({ names, ...rest }: CopyEntry): object {
	return { path: names.join('/'), ...rest };
}

/**
 * Throws CHANNEL_PROTOCOL. The other side may be anybody: a path that climbs (`..`), is absolute or has a NUL is never
 * ours, and would be a way to write outside of what the person named.
 */
export function decodeEntry(frame: Frame): CopyEntry {
	const { path, kind, mode, mtimeMs, size, target } = documentOf(frame);
	if (typeof path !== 'string' || path.length > PATH_BYTES_MAX) throw protocolError('a path is missing or too long');
	const names = path.split('/');
	if (names.length > DEPTH_MAX || !names.every(isName)) throw protocolError('a path leads out of what is copied');
	if (kind !== 'file' && kind !== 'directory' && kind !== 'link') throw protocolError('an entry is of no known kind');
	if (!isInteger(mode, 0o777) || !isInteger(size, Number.MAX_SAFE_INTEGER))
		throw protocolError('mode or size is wrong');
	if (typeof mtimeMs !== 'number' || !Number.isFinite(mtimeMs) || Math.abs(mtimeMs) > TIME_MS_MAX)
		throw protocolError('a time is wrong');
	if (typeof target !== 'string' || !isBytes(target) || target.length > PATH_BYTES_MAX)
		throw protocolError('the target of a link is wrong');
	if (kind === 'link' && target === '') throw protocolError('a link has no target');
	return { names, kind, mode, mtimeMs, size, target };
}

function isName(name: string): boolean {
	return name !== '' && name !== '.' && name !== '..' && name.length <= NAME_BYTES_MAX && isBytes(name);
}

/** One character a byte, none of them NUL. */
function isBytes(text: string): boolean {
	for (let index = 0; index < text.length; index += 1) {
		const code = text.charCodeAt(index);
		if (code === 0 || code > 0xff) return false;
	}
	return true;
}

function isInteger(value: unknown, max: number): value is number {
	return Number.isSafeInteger(value) && Number(value) >= 0 && Number(value) <= max;
}

/** What the file system takes for a byte string. */
export function bytesOf(path: string): Buffer {
	return Buffer.from(path, 'latin1');
}

/** The first name of what is copied from `path`, as both sides know it: `/` and `.` have none of their own to give. */
export function firstName(path: string): string {
	const name = byteString(basename(path));
	return name === '' || name === '.' || name === '..' ? 'root' : name;
}

export function byteString(text: string): string {
	return Buffer.from(text, 'utf8').toString('latin1');
}

/** For people: UTF-8 where it is, on one line: a name with a line break could say a sentence of its own. */
export function shownPath(path: string): string {
	return bytesOf(path).toString('utf8').replaceAll('\n', '\\n');
}
