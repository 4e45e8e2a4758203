/**
 * What everybody on this machine may see at a path. A host looks as root, and what it finds is told to whoever asked; so
 * for another account it looks through folders that everybody may enter, and leaves the rest to the kernel, which decides
 * as that account when the program starts.
 */
import { lstatSync, readlinkSync, type Stats } from 'node:fs';
import { isAbsolute, join } from 'node:path';

/** Linux: PATH_MAX, and how many links it follows. */
const PATH_BYTES_MAX = 4096;
const LINKS_MAX = 40;
const OTHERS_ENTER = 0o001;

/** `path` is absolute. Links are followed by the same rule. HIDDEN: it may be there or not. */
export function lookAsAnybody(path: string): Stats | 'MISSING' | 'HIDDEN' {
	if (Buffer.byteLength(path) > PATH_BYTES_MAX) return 'MISSING';
	try {
		return walk(path);
	} catch (error) {
		return (error as NodeJS.ErrnoException).code === 'EACCES' ? 'HIDDEN' : 'MISSING';
	}
}

function walk(path: string): Stats | 'MISSING' | 'HIDDEN' {
	const names = namesOf(path);
	let at = '/';
	let stat = lstatSync(at);
	let links = 0;
	for (let name = names.pop(); name !== undefined; name = names.pop()) {
		if (!stat.isDirectory()) return 'MISSING';
		if ((stat.mode & OTHERS_ENTER) === 0) return 'HIDDEN';
		// `at` has no links in it, so `..` is what it seems.
		const next = join(at, name);
		const found = lstatSync(next);
		if (!found.isSymbolicLink()) {
			at = next;
			stat = found;
			continue;
		}
		links += 1;
		if (links > LINKS_MAX) return 'MISSING';
		const target = readlinkSync(next);
		names.push(...namesOf(target));
		if (!isAbsolute(target)) continue;
		at = '/';
		stat = lstatSync(at);
	}
	return stat;
}

/** The first is the last. */
function namesOf(path: string): string[] {
	return path
		.split('/')
		.filter((name) => name !== '')
		.reverse();
}
