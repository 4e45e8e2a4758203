import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { processIdentity } from '../../kit/process-identity.ts';
import { acquireHostLock, type HostLock, readHostLock } from './lock.ts';

let directory: string;
beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), 'lock-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function mine(instanceId: string): HostLock {
	const identity = processIdentity(process.pid);
	if (identity === undefined) throw new Error('no /proc');
	return { ...identity, instanceId };
}

it('is held by one, who is told to the others', () => {
	expect(readHostLock(directory)).toBeUndefined();
	expect(acquireHostLock(directory, mine('a'))).toEqual({ kind: 'ACQUIRED', previous: undefined });
	expect(acquireHostLock(directory, mine('b'))).toMatchObject({ kind: 'HELD', by: { instanceId: 'a' } });
	expect(readHostLock(directory)).toMatchObject({ alive: true, lock: { instanceId: 'a' } });
});

it.each([
	['a process that is gone', { pid: 2 ** 22 + 1 }],
	['a pid that was given out again', { startTimeTicks: 1 }],
	['another boot', { bootId: 'another' }],
])('is taken over from %s', (_name, dead) => {
	writeFileSync(join(directory, 'lock-0000000007'), JSON.stringify({ ...mine('dead'), ...dead }));
	expect(readHostLock(directory)?.alive).toBe(false);
	expect(acquireHostLock(directory, mine('next'))).toMatchObject({
		kind: 'ACQUIRED',
		previous: { instanceId: 'dead' },
	});
	expect(readdirSync(directory)).toEqual(['lock-0000000008']);
});

it('is taken over from a lock that nobody can read', () => {
	writeFileSync(join(directory, 'lock-0000000001'), '{"instanceId":');
	expect(readHostLock(directory)).toBeUndefined();
	expect(acquireHostLock(directory, mine('next')).kind).toBe('ACQUIRED');
});
