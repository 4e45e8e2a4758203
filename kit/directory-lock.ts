/**
 * One holder of a directory. Locks are numbered files: the highest number is the lock, and it is never deleted except by
 * the holder of a higher one. Taking over from a dead holder is to create the next number, which exactly one contender
 * can do; a slow contender that creates a number below the highest sees that and withdraws. Whoever deletes a dead
 * holder's file instead may delete the one of the contender that did so a moment before.
 */
import {
	closeSync,
	fsyncSync,
	linkSync,
	openSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmSync,
	writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { isSameProcess, type ProcessIdentity } from './process-identity.ts';

export interface DirectoryLock extends ProcessIdentity {
	/** Random; a host says it on its socket, so a client knows that it speaks to the holder of this lock. */
	readonly instanceId: string;
	/** What else its holder says of itself. */
	readonly says?: Readonly<Record<string, string>>;
}

export type LockOutcome =
	| { readonly kind: 'ACQUIRED'; readonly previous: DirectoryLock | undefined; readonly release: () => void }
	| { readonly kind: 'HELD'; readonly by: DirectoryLock | undefined };

const NAME = /^lock-(\d{10})$/;

function highest(directory: string): number {
	let max = 0;
	for (const name of readdirSync(directory)) max = Math.max(max, Number(NAME.exec(name)?.[1] ?? 0));
	return max;
}

function pathOf(directory: string, number: number): string {
	return join(directory, `lock-${String(number).padStart(10, '0')}`);
}

function parse(text: string): DirectoryLock | undefined {
	try {
		const value = JSON.parse(text) as Partial<DirectoryLock> | null;
		const { instanceId, pid, startTimeTicks, bootId, says } = value ?? {};
		if (typeof instanceId !== 'string' || typeof bootId !== 'string') return undefined;
		if (!Number.isSafeInteger(pid) || !Number.isSafeInteger(startTimeTicks)) return undefined;
		const identity = { instanceId, pid: Number(pid), startTimeTicks: Number(startTimeTicks), bootId };
		return says === undefined ? identity : { ...identity, says };
	} catch {
		return undefined;
	}
}

function readLock(directory: string, number: number): DirectoryLock | undefined {
	try {
		return parse(readFileSync(pathOf(directory, number), 'utf8'));
	} catch {
		// Deleted by the holder of a higher number since the listing.
		return undefined;
	}
}

/** The lock and whether its holder lives; undefined where nobody ever was. */
export function readDirectoryLock(
	directory: string,
): { readonly lock: DirectoryLock; readonly alive: boolean } | undefined {
	const number = highest(directory);
	const lock = number === 0 ? undefined : readLock(directory, number);
	return lock === undefined ? undefined : { lock, alive: isSameProcess(lock) };
}

export function acquireDirectoryLock(directory: string, lock: DirectoryLock): LockOutcome {
	const heldNumber = highest(directory);
	const held = heldNumber === 0 ? undefined : readLock(directory, heldNumber);
	if (held !== undefined && isSameProcess(held)) return { kind: 'HELD', by: held };
	const number = heldNumber + 1;
	const path = pathOf(directory, number);
	const draft = join(directory, `draft-${lock.instanceId}`);
	try {
		writeDraft(draft, lock);
		linkSync(draft, path);
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
		return { kind: 'HELD', by: readDirectoryLock(directory)?.lock };
	} finally {
		rmSync(draft, { force: true });
	}
	if (highest(directory) > number) {
		rmSync(path, { force: true });
		return { kind: 'HELD', by: readDirectoryLock(directory)?.lock };
	}
	for (const name of readdirSync(directory)) {
		const other = NAME.exec(name)?.[1];
		if (other !== undefined && Number(other) < number) rmSync(join(directory, name), { force: true });
	}
	return { kind: 'ACQUIRED', previous: held, release: () => release(path, draft) };
}

/** A process that lives on lets go: its number stays, since numbers only rise, and names nobody. */
function release(path: string, draft: string): void {
	writeDraft(draft, {});
	renameSync(draft, path);
}

function writeDraft(draft: string, content: object): void {
	const fd = openSync(draft, 'wx', 0o600);
	try {
		writeSync(fd, JSON.stringify(content));
		fsyncSync(fd);
	} finally {
		closeSync(fd);
	}
}
