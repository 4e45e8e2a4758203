import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loaderArgs } from '../../kit/loader-args.ts';
import { isUnpopulated, killMembers, removeTree } from './cgroup.ts';
import { cgroupIdOf } from './cgroup-base.ts';
import { until } from './host-fixture.ts';
import { sweepLeftTrees } from './left-trees.ts';

const mount = /^\S+ \S+ \S+ \S+ (\S+) [^-]*- cgroup2 /m.exec(readFileSync('/proc/self/mountinfo', 'latin1'))?.[1];

const LEFT_TREES = fileURLToPath(new URL('./left-trees.ts', import.meta.url));
const isRoot = process.getuid?.() === 0;

describe.skipIf(!isRoot)('in a real cgroup', () => {
	let home: string;
	beforeEach(() => {
		home = mkdtempSync(join(mount ?? '', 'kill-'));
	});
	afterEach(async () => {
		killMembers(home);
		await until(() => expect(removeTree(home)).toBe(true));
	});

	/** A shell in this cgroup. */
	function shell(cgroup: string, script: string) {
		return spawn('sh', ['-c', `echo $$ > ${cgroup}/cgroup.procs; ${script}`], { stdio: 'ignore' });
	}

	test('a kernel without cgroup.kill: nobody is left, of those that fork meanwhile and in cgroups below neither', async () => {
		const below = join(home, 'below');
		mkdirSync(below);
		shell(home, 'while :; do sleep 1000 & sleep 0.01; done');
		shell(below, 'sleep 1000');
		const members = () => readFileSync(join(home, 'cgroup.procs'), 'latin1').split('\n').length;
		await until(() => expect(members()).toBeGreaterThan(5));
		await until(() => expect(isUnpopulated(below)).toBe(false));
		expect(killMembers(home)).toBe(true);
		await until(() => expect(isUnpopulated(home)).toBe(true));
		expect(killMembers(join(home, 'none'))).toBe(false);
	});

	test('whoever has process ids of its own does not see all processes', () => {
		const script = `import { seesAllProcesses } from ${JSON.stringify(LEFT_TREES)}; console.log(seesAllProcesses())`;
		const node = [process.execPath, ...loaderArgs(), '--input-type=module', '-e', script];
		const here = execFileSync(node[0] ?? '', node.slice(1), { encoding: 'utf8' });
		expect(here.trim()).toBe(String(readlinkSync('/proc/self/ns/pid') === 'pid:[4026531836]'));
		const inside = execFileSync('unshare', ['--pid', '--fork', '--mount-proc', ...node], { encoding: 'utf8' });
		expect(inside.trim()).toBe('false');
	});

	test('trees of hosts that are gone are removed, not those of hosts that live or that somebody is in', async () => {
		const living = mkdtempSync(join(tmpdir(), 'living-'));
		const tree = (name: string) => {
			const path = join(home, `gpuaas-${cgroupIdOf(name)}`);
			mkdirSync(join(path, 'devices-a1', 'task-1'), { recursive: true });
			return path;
		};
		const trees = { dead: tree('/dead'), own: tree('/own'), occupied: tree('/occupied'), living: tree(living) };
		const other = join(home, 'other');
		mkdirSync(other);
		const host = spawn('sh', ['-c', 'sleep 1000; :', 'host', living], { stdio: 'ignore' });
		const member = shell(join(trees.occupied, 'devices-a1', 'task-1'), 'exec sleep 1000');
		try {
			await until(() => expect(isUnpopulated(trees.occupied)).toBe(false));
			await until(() => expect(readFileSync(`/proc/${host.pid}/cmdline`, 'utf8')).toContain(living));
			const log: string[] = [];
			const sweep = (seesAll: boolean) =>
				sweepLeftTrees(
					home,
					`gpuaas-${cgroupIdOf('/own')}`,
					(line) => log.push(line),
					() => seesAll,
				);
			sweep(false);
			expect(log).toEqual([expect.stringContaining('3 cgroups of other hosts are left alone')]);
			expect(Object.values(trees).map((path) => existsSync(path))).toEqual([true, true, true, true]);
			log.length = 0;
			sweep(true);
			expect(Object.values(trees).map((path) => existsSync(path))).toEqual([false, true, true, true]);
			expect(existsSync(other)).toBe(true);
			expect(log).toHaveLength(1);
		} finally {
			host.kill('SIGKILL');
			member.kill('SIGKILL');
			rmSync(living, { recursive: true, force: true });
		}
	});
});
