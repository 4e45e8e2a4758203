import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../eventually.ts';
import { lacks } from '../tools.ts';
import { policyOf, startCrafted, TESTER, TESTER_LINES } from './crafted-host.ts';
import type { TerminalsWorld } from './terminals-world.ts';

/**
 * Whatever runs for a person on a node is the mapped account and nothing more: its ids, its supplementary groups and no
 * other, no capability, none to be gained, and in a cgroup of its own where there can be one. By the kernel's own word.
 */
describe.skipIf(lacks('root', 'unshare', 'mount'))('on a node', () => {
	let world: TerminalsWorld;
	beforeAll(async () => {
		const policy = policyOf([TESTER.name], 'allow = ["10.99.0.7:80"]\n');
		world = await startCrafted({ ...TESTER_LINES, policy });
	});
	afterAll(async () => {
		await world?.[Symbol.asyncDispose]();
	});

	/** /proc/PID/status and /proc/PID/cgroup, one after the other. */
	function isTheAccount(text: string): void {
		const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(text)?.[1]?.trim().split(/\s+/);
		const { uid, gid, groups } = TESTER;
		expect(field('Uid')).toEqual(Array(4).fill(String(uid)));
		expect(field('Gid')).toEqual(Array(4).fill(String(gid)));
		expect(field('Groups')).toEqual([gid, ...groups].map(String));
		for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) expect(field(set)).toEqual(['0'.repeat(16)]);
		expect(field('NoNewPrivs')).toEqual(['1']);
		const log = readFileSync(`${world.up.data}/agent/pty-host/host.log`, 'utf8');
		if (log.includes('cgroup2 containment')) expect(/^0::.*$/m.exec(text)?.[0]).toMatch(/\/task-[0-9a-f-]{36}/);
	}

	const READ = 'cat /proc/self/status /proc/self/cgroup';

	test('a command and a task are the account', async () => {
		for (const verb of [
			['exec', world.node, '-n'],
			['run', '-n', world.node],
		]) {
			const { stdout, stderr } = await world.up.run(...verb, '--', 'sh', '-c', READ);
			expect(stderr).toBe('');
			isTheAccount(stdout);
		}
	});

	test('a shell is the account, and leads a session of its own on its own terminal', async () => {
		using person = world.person('shell', world.node);
		await person.sees('$');
		person.type(`${READ}; ps -o sid=,tty=,pid= -p $$; ls -l $(tty); echo e""nd\r`);
		await person.sees(/^end/m);
		const text = person.raw.replaceAll('\r', '');
		isTheAccount(text);
		const [, session, pid] = /^\s*(\d+) pts\/\d+\s+(\d+)$/m.exec(text) ?? [];
		expect([session, pid]).toEqual([pid, expect.stringMatching(/\d/)]);
		expect(text).toMatch(new RegExp(`crw--w---- .* ${TESTER.name} `));
		await person.leaves('exit', 0);
	});

	/** What the helper of that name is, once it runs. */
	async function helper(name: string): Promise<string> {
		const pid = await world.up.helper(name);
		return readFileSync(`/proc/${pid}/status`, 'utf8') + readFileSync(`/proc/${pid}/cgroup`, 'utf8');
	}

	test('what copies files and what forwards ports is the account', async () => {
		const forward = world.up.start(['forward', world.node, '0:1', '--json']);
		await forward.line((line) => line.includes('listening'));
		isTheAccount(await helper('forward'));
		forward.child.kill('SIGINT');
		await forward.ended;

		const big = `/tmp/gpuaas-big-${process.pid}`;
		writeFileSync(big, '');
		truncateSync(big, 2 ** 31);
		try {
			const copy = world.up.start(['cp', `${world.node}:${big}`, `${world.up.root}/big`]);
			isTheAccount(await helper('files'));
			copy.child.kill('SIGINT');
			await copy.ended;
		} finally {
			rmSync(big);
		}
	});

	test('a forward leads to no network that the installation keeps closed, also where the node lists it', async () => {
		await world.configure('terminals', 'forward_never = ["10.99.0.0/16"]');
		const forward = world.up.start(['forward', world.node, '0:10.99.0.7:80', '--json']);
		const line = await forward.line((text) => text.includes('listening'));
		const { port } = (JSON.parse(line) as { listening: { port: number } }).listening;
		const socket = connect({ host: '127.0.0.1', port }).on('error', () => {});
		await eventually('it is refused', () => forward.stderr().includes('never forwarded to'));
		socket.destroy();
		forward.child.kill('SIGINT');
		await forward.ended;
	});
});
