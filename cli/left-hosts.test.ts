import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { hostPath, hostsToEnd, type LeftHost, leftHosts } from './up/left-hosts.ts';

/** A /proc of our own: what is asked of the kernel is shown by test/integration/up-stop.test.ts. */
let procRoot: string;
let root: string;

beforeEach(() => {
	procRoot = mkdtempSync(join(tmpdir(), 'proc-'));
	root = mkdtempSync(join(tmpdir(), 'gpuaas-up-'));
	mkdirSync(join(procRoot, 'sys/kernel/random'), { recursive: true });
	writeFileSync(join(procRoot, 'sys/kernel/random/boot_id'), 'boot\n');
});

function runs(pid: number, ...argv: readonly string[]): void {
	mkdirSync(join(procRoot, String(pid)));
	writeFileSync(join(procRoot, String(pid), 'stat'), `${pid} (node) S ${'0 '.repeat(18)}${pid * 10} 0`);
	writeFileSync(join(procRoot, String(pid), 'cmdline'), argv.map((each) => `${each}\0`).join(''));
}

it("finds the hosts of this folder's agent, and nothing else", () => {
	runs(101, 'node', '--expose-gc', hostPath('process-host'), join(root, 'agent', 'process-host'), '--compiled');
	runs(102, 'node', hostPath('pty-host'), join(root, 'agent', 'pty-host'));
	runs(103, 'node', hostPath('pty-host'), join(`${root}-other`, 'agent', 'pty-host'));
	runs(104, 'ls', join(root, 'agent', 'process-host'));
	expect(leftHosts(root, procRoot)).toEqual([
		{ name: 'process host', pid: 101, startTimeTicks: 1010, bootId: 'boot' },
		{ name: 'pty host', pid: 102, startTimeTicks: 1020, bootId: 'boot' },
	]);
});

it('ends all after Ctrl-C, and of a start that failed only what that start brought', () => {
	const host = (pid: number, startTimeTicks: number): LeftHost => ({
		name: 'pty host',
		pid,
		startTimeTicks,
		bootId: 'boot',
	});
	const before = [host(1, 10), host(2, 20)];
	// The pid of one that ended belongs to another by now.
	const left = [host(1, 10), host(2, 21), host(3, 30)];
	expect(hostsToEnd(left, before, true)).toEqual(left);
	expect(hostsToEnd(left, before, false)).toEqual([host(2, 21), host(3, 30)]);
});
