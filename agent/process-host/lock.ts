/**
 * One host per directory. Locks are numbered files: the highest number is the lock, and it is never deleted except by
 * the holder of a higher one. Taking over from a dead host is to create the next number, which exactly one contender
 * can do; a slow contender that creates a number below the highest sees that and withdraws.
 */
import { closeSync, fsyncSync, linkSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { isSameProcess, type ProcessIdentity } from '../../kit/process-identity.ts';

export interface HostLock extends ProcessIdentity {
	/** Random; the host says it on the socket, so a client knows that it speaks to the holder of this lock. */
	readonly instanceId: string;
}

export type LockOutcome =
	| { readonly kind: 'ACQUIRED'; readonly previous: HostLock | undefined }
	| { readonly kind: 'HELD'; readonly by: HostLock | undefined };

const NAME = /^lock-(\d{10})$/;

function highest(directory: string): number {
	let max = 0;
	for (const name of readdirSync(directory)) max = Math.max(max, Number(NAME.exec(name)?.[1] ?? 0));
	return max;
}

function pathOf(directory: string, number: number): string {
	return join(directory, `lock-${String(number).padStart(10, '0')}`);
}

function parse(text: string): HostLock | undefined {
	try {
		const value = JSON.parse(text) as Partial<HostLock> | null;
		const { instanceId, pid, startTimeTicks, bootId } = value ?? {};
		if (typeof instanceId !== 'string' || typeof bootId !== 'string') return undefined;
		if (!Number.isSafeInteger(pid) || !Number.isSafeInteger(startTimeTicks)) return undefined;
		return { instanceId, pid: Number(pid), startTimeTicks: Number(startTimeTicks), bootId };
	} catch {
		return undefined;
	}
}

function readLock(directory: string, number: number): HostLock | undefined {
	try {
		return parse(readFileSync(pathOf(directory, number), 'utf8'));
	} catch {
		// Deleted by the holder of a higher number since the listing.
		return undefined;
	}
}

/** The lock and whether its holder lives; undefined where no host ever ran. */
export function readHostLock(directory: string): { readonly lock: HostLock; readonly alive: boolean } | undefined {
	const number = highest(directory);
	const lock = number === 0 ? undefined : readLock(directory, number);
	return lock === undefined ? undefined : { lock, alive: isSameProcess(lock) };
}

export function acquireHostLock(directory: string, lock: HostLock): LockOutcome {
	const heldNumber = highest(directory);
	const held = heldNumber === 0 ? undefined : readLock(directory, heldNumber);
	if (held !== undefined && isSameProcess(held)) return { kind: 'HELD', by: held };
	const number = heldNumber + 1;
	const path = pathOf(directory, number);
	const draft = join(directory, `draft-${lock.instanceId}`);
	const fd = openSync(draft, 'wx', 0o600);
	try {
		writeSync(fd, JSON.stringify(lock));
		fsyncSync(fd);
		linkSync(draft, path);
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
		return { kind: 'HELD', by: readHostLock(directory)?.lock };
	} finally {
		closeSync(fd);
		rmSync(draft, { force: true });
	}
	if (highest(directory) > number) {
		rmSync(path, { force: true });
		return { kind: 'HELD', by: readHostLock(directory)?.lock };
	}
	for (const name of readdirSync(directory)) {
		const other = NAME.exec(name)?.[1];
		if (other !== undefined && Number(other) < number) rmSync(join(directory, name), { force: true });
	}
	return { kind: 'ACQUIRED', previous: held };
}
