import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { lacks } from '../tools.ts';
import { policyOf, startCrafted, TESTER, TESTER_LINES } from './crafted-host.ts';
import type { Colleague, TerminalsWorld } from './terminals-world.ts';

/**
 * Whatever a tenant starts on a node opens the devices of its assignment and no others: not a disk or the memory of the
 * machine, even where a device file with mode 666 is in its reach. By a policy that says nothing of devices.
 */
describe.skipIf(lacks('root', 'unshare', 'mount'))('a tenant', () => {
	let world: TerminalsWorld;
	let ada: Colleague;
	let folder: string;
	/** What the operator's command said before the node had a holder. */
	let before: string;

	beforeAll(async () => {
		folder = mkdtempSync(join(tmpdir(), 'devices-'));
		execFileSync('chmod', ['755', folder]);
		execFileSync('mknod', ['-m', '666', join(folder, 'disk'), 'b', '7', '0']);
		execFileSync('mknod', ['-m', '666', join(folder, 'mem'), 'c', '1', '1']);
		execFileSync('mknod', ['-m', '666', join(folder, 'fuse'), 'c', '10', '229']);
		world = await startCrafted({ ...TESTER_LINES, policy: policyOf([TESTER.name]) });
		before = (await world.up.run('exec', world.node, '-n', '--', 'sh', '-c', SCRIPT(folder))).stdout;
		[ada] = (await world.project('ada')) as [Colleague];
	});
	afterAll(async () => {
		await world?.[Symbol.asyncDispose]();
		rmSync(folder, { recursive: true, force: true });
	});

	const SCRIPT = (path: string) =>
		`cd ${path}; for each in disk mem fuse /dev/null /dev/zero /dev/urandom /dev/tty; do (: < $each) 2>&1 && echo $each opens; done; grep ^0:: /proc/self/cgroup`;

	/** A sub-shell without a terminal has no /dev/tty: another error than a refusal. */
	function isHeld(text: string): void {
		for (const name of ['disk', 'mem', 'fuse']) expect(text).toMatch(new RegExp(`${name}: Operation not permitted`));
		for (const name of ['null', 'zero', 'urandom']) expect(text).toContain(`/dev/${name} opens`);
		expect(text).toMatch(/^0::\S*\/devices-[0-9a-f-]{36}\/task-/m);
	}

	test('is not beside a command of the platform that runs unheld as its own account', () => {
		expect(before).toMatch(/disk: Operation not permitted/);
		expect(before).toContain('/devices-platform/');
	});

	test('in a command and in a task', async () => {
		const command = await ada.run('exec', world.node, '-n', '--', 'sh', '-c', SCRIPT(folder));
		isHeld(command.stdout);
		const task = await ada.run('run', '-n', world.node, '--', 'sh', '-c', SCRIPT(folder));
		isHeld(task.stdout);
	});

	test('in a shell, which has its terminal, also after kill -9 of the agent', async () => {
		using person = ada.person('shell', world.node);
		await person.sees('$');
		const look = async (mark: string) => {
			const from = person.raw.length;
			person.type(`clear; ${SCRIPT(folder)}; echo ${mark}""end\r`);
			await person.sees(new RegExp(`^${mark}end`, 'm'), 60_000);
			const text = person.raw.slice(from).replaceAll('\r', '');
			isHeld(text);
			expect(text).toContain('/dev/tty opens');
		};
		await look('one');
		await world.restart('agent/main');
		await look('two');
	});

	test('in what copies files and what forwards ports', async () => {
		const helper = async (name: string) => {
			const pid = await world.up.helper(name);
			expect(readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toMatch(/^0::\S*\/devices-[0-9a-f-]{36}\/task-/m);
		};
		using forward = ada.person('forward', world.node, '0:1', '--json');
		await helper('forward');
		forward.kill('SIGINT');
		await forward.exited;

		const big = join(folder, 'big');
		writeFileSync(big, '');
		truncateSync(big, 2 ** 31);
		using copy = ada.person('cp', `${world.node}:${big}`, join(world.up.root, 'big'));
		await helper('files');
		copy.kill('SIGINT');
		await copy.exited;
	});

	test('and the node says so', async () => {
		const { stdout } = await world.up.run('node', 'show', world.node);
		expect(stdout).toMatch(/^devices: +tenants are held to theirs by (eBPF on cgroup v2|the devices controller)/m);
		const { node } = await world.up.json<{ node: { capabilities: string[] } }>('node', 'show', world.node);
		expect(node.capabilities).toContain(stdout.includes('eBPF') ? 'devices.bpf' : 'devices.cgroup1');
	});
});
