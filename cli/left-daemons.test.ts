import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { present } from '../kit/assert.ts';
import { processIdentity } from '../kit/process-identity.ts';
import { VirtualClock } from '../kit/virtual-clock.ts';
import { daemonPath } from './daemon.ts';
import { endLeftDaemons, leftDaemons, markOf } from './up/left-daemons.ts';

/** A /proc of our own: what is asked of the kernel is shown by test/integration/up-killed.test.ts. */
let procRoot: string;
let root: string;

beforeEach(() => {
	procRoot = mkdtempSync(join(tmpdir(), 'proc-'));
	root = mkdtempSync(join(tmpdir(), 'gpuaas-up-'));
	mkdirSync(join(procRoot, 'sys/kernel/random'), { recursive: true });
	writeFileSync(join(procRoot, 'sys/kernel/random/boot_id'), 'boot\n');
	mkdirSync(join(procRoot, 'self'));
});

function runs(pid: number, argv: readonly string[], environment: Readonly<Record<string, string>>, state = 'S'): void {
	const folder = join(procRoot, String(pid));
	mkdirSync(folder);
	writeFileSync(join(folder, 'stat'), `${pid} (node) ${state} ${'0 '.repeat(18)}${pid * 10} 0`);
	writeFileSync(join(folder, 'cmdline'), argv.map((each) => `${each}\0`).join(''));
	const pairs = Object.entries({ PATH: '/bin', ...environment });
	writeFileSync(join(folder, 'environ'), pairs.map(([name, value]) => `${name}=${value}\0`).join(''));
}

it('finds both daemons that an up of this folder started, however the folder is named', () => {
	runs(101, ['node', daemonPath('control-plane'), '--config', 'x'], markOf(root));
	runs(102, ['node', daemonPath('agent'), 'run'], markOf(root));
	const other = join(procRoot, 'link');
	symlinkSync(root, other);
	expect(leftDaemons(other, procRoot)).toEqual([
		{ daemon: 'control-plane', pid: 101, startTimeTicks: 1010, bootId: 'boot' },
		{ daemon: 'agent', pid: 102, startTimeTicks: 1020, bootId: 'boot' },
	]);
});

it('leaves alone what it did not start: daemons of a person or of another folder, other programs, the dead', () => {
	const other = mkdtempSync(join(tmpdir(), 'gpuaas-up-'));
	runs(101, ['node', daemonPath('control-plane'), '--config', join(root, 'control-plane.toml')], {});
	runs(102, ['node', daemonPath('agent'), 'run'], markOf(other));
	runs(103, ['node', daemonPath('agent'), 'run'], { UP_FOLDER: `${markOf(root).UP_FOLDER}-other` });
	runs(104, ['sh', '-c', 'echo'], markOf(root));
	runs(105, ['node', daemonPath('agent'), 'run'], markOf(root), 'Z');
	expect(leftDaemons(root, procRoot)).toEqual([]);
});

it('asks a control plane to stop, and kills one that does not within the time that a stop has', async () => {
	const deaf = spawn('sh', ['-c', 'trap "echo asked" TERM; echo ready; while :; do sleep 0.05; done'], {
		detached: true,
		stdio: ['ignore', 'pipe', 'ignore'],
	});
	await once(deaf.stdout, 'data');
	const identity = present(processIdentity(present(deaf.pid, 'it runs')), 'it runs');
	const clock = new VirtualClock();
	const asked = once(deaf.stdout, 'data');
	const ended = endLeftDaemons(clock, [{ ...identity, daemon: 'control-plane' }]);
	expect(String(await asked)).toBe('asked\n');
	clock.advance(50);
	expect(deaf.signalCode, 'not before').toBeNull();
	const exit = once(deaf, 'exit');
	// One look a turn: each sleep is set by the one before it.
	while (deaf.signalCode === null && clock.monotonic() < 60_000) {
		clock.advance(50);
		await new Promise(setImmediate);
	}
	expect(await exit).toEqual([null, 'SIGKILL']);
	expect(clock.monotonic()).toBeGreaterThan(20_000);
	clock.advance(50);
	await ended;
});
