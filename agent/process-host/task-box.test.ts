import { expect, test } from 'vitest';
import type { LaunchLimits } from '../tasks/process-host.ts';
import { rlimitOptions, sessionBox } from './task-box.ts';

/** Which of the two bounds a task elsewhere is this machine's to say; what each asks the kernel for isn't. */
const LIMITS: LaunchLimits = {
	cpuSeconds: 7,
	addressSpaceBytes: 2 ** 30,
	openFiles: 64,
	processes: 4,
	memoryBytes: 64 << 20,
	cpuQuota: 0.5,
};

test('a session is held by rlimits, and names what they can not hold it to', () => {
	const box = sessionBox(LIMITS, undefined, async (work) => work());
	expect(box.rlimits).toEqual(['--cpu=7', '--as=1073741824', '--nofile=64', '--nproc=4', `--data=${64 << 20}`]);
	expect(box.unenforced).toEqual(['cpuQuota']);
	expect(sessionBox({ memoryBytes: 1 }, undefined, async (work) => work()).unenforced).toEqual([]);
});

test('what a cgroup bounds better is left to it', () => {
	expect(rlimitOptions(LIMITS, true)).toEqual(['--cpu=7', '--as=1073741824', '--nofile=64']);
	expect(rlimitOptions({}, false)).toEqual([]);
});
