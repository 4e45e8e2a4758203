import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { acquireDirectoryLock, type DirectoryLock, readDirectoryLock } from './directory-lock.ts';
import { processIdentity } from './process-identity.ts';

let directory: string;
beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), 'lock-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function mine(instanceId: string): DirectoryLock {
	const identity = processIdentity(process.pid);
	if (identity === undefined) throw new Error('no /proc');
	return { ...identity, instanceId };
}

it('is held by one, who is told to the others', () => {
	expect(readDirectoryLock(directory)).toBeUndefined();
	expect(acquireDirectoryLock(directory, mine('a'))).toMatchObject({ kind: 'ACQUIRED', previous: undefined });
	expect(acquireDirectoryLock(directory, mine('b'))).toMatchObject({ kind: 'HELD', by: { instanceId: 'a' } });
	expect(readDirectoryLock(directory)).toMatchObject({ alive: true, lock: { instanceId: 'a' } });
});

it.each([
	['a process that is gone', { pid: 2 ** 22 + 1 }],
	['a pid that was given out again', { startTimeTicks: 1 }],
	['another boot', { bootId: 'another' }],
])('is taken over from %s', (_name, dead) => {
	writeFileSync(join(directory, 'lock-0000000007'), JSON.stringify({ ...mine('dead'), ...dead }));
	expect(readDirectoryLock(directory)?.alive).toBe(false);
	expect(acquireDirectoryLock(directory, mine('next'))).toMatchObject({
		kind: 'ACQUIRED',
		previous: { instanceId: 'dead' },
	});
	expect(readdirSync(directory)).toEqual(['lock-0000000008']);
});

it('is taken over from a lock that nobody can read', () => {
	writeFileSync(join(directory, 'lock-0000000001'), '{"instanceId":');
	expect(readDirectoryLock(directory)).toBeUndefined();
	expect(acquireDirectoryLock(directory, mine('next')).kind).toBe('ACQUIRED');
});

it('is free again once its holder let go, who may live on', () => {
	const first = acquireDirectoryLock(directory, { ...mine('a'), says: { port: '1' } });
	expect(readDirectoryLock(directory)?.lock.says).toEqual({ port: '1' });
	if (first.kind === 'ACQUIRED') first.release();
	expect(readDirectoryLock(directory)).toBeUndefined();
	expect(acquireDirectoryLock(directory, mine('b'))).toMatchObject({ kind: 'ACQUIRED', previous: undefined });
	expect(readdirSync(directory), 'numbers only rise').toEqual(['lock-0000000002']);
});
