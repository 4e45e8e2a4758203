import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../eventually.ts';
import { type Ready, type Started, UpWorld } from './up-world.ts';

/** A second host by the README's three commands (here: a second data folder), and commands over several nodes. */
const world = new UpWorld();
const data = join(world.root, 'second');
let ready: Ready;
let agent: Started;

beforeAll(async () => {
	ready = await world.up();
	mkdirSync(data, { mode: 0o700 });
	const created = await world.run('token', 'create', '--name', 'second', '--label', 'rack=r2');
	writeFileSync(join(data, 'token'), created.stdout, { mode: 0o600 });
	const enrolled = await world.run(
		'agent',
		'enroll',
		'--data',
		data,
		'--address',
		ready.enroll,
		'--token-file',
		join(data, 'token'),
	);
	if (enrolled.code !== 0) throw new Error(enrolled.stderr);
	copyFileSync(join(world.data, 'agent.policy.toml'), join(data, 'policy.toml'));
	const flags = [
		'--data',
		data,
		'--set',
		`core.policy=${join(data, 'policy.toml')}`,
		'--set',
		'tasks.stop_host_with_agent=true',
	];
	agent = world.start(['agent', 'run', ...flags]);
	await agent.line((line) => line.includes('"ready":true'));
}, 120_000);

afterAll(async () => {
	agent?.child.kill('SIGTERM');
	await agent?.ended;
	await world[Symbol.asyncDispose]();
}, 60_000);

describe('two nodes', () => {
	test('the second one has the name and labels of its token, and the token file is gone', async () => {
		const { nodes } = await world.json<{ nodes: { name: string; labels: object }[] }>('node', 'list', '-l', 'rack=r2');
		expect(nodes).toMatchObject([{ name: 'second', labels: { rack: 'r2' } }]);
		expect(existsSync(join(data, 'token'))).toBe(false);
	});

	test('a command must say which node it means', async () => {
		const refused = await world.run('run', '--', 'true');
		expect(refused.code).toBe(125);
		expect(refused.stderr).toContain('--selector');
	});

	test('--all prefixes each line with its node, stdout apart from stderr', async () => {
		const ran = await world.run('run', '--all', '--', 'sh', '-c', 'echo out; echo err >&2');
		expect(ran.code).toBe(0);
		expect(ran.stdout.trim().split('\n').sort()).toEqual([`${ready.node} | out`, 'second | out'].sort());
		expect(ran.stderr.trim().split('\n').sort()).toEqual([`${ready.node} | err`, 'second | err'].sort());
	});

	test('--selector reaches the nodes with the label; the exit code of several is the first that is not 0 by name', async () => {
		expect(await world.run('run', '-l', 'rack=r2', '--', 'sh', '-c', 'echo hi; exit 4')).toMatchObject({
			code: 4,
			stdout: 'hi\n',
		});
		// Both run in folders of their own; only one of them has this file.
		const script = `test -e ${join(data, 'journal.db')} && exit 9; exit 0`;
		expect((await world.run('run', '--all', '--', 'sh', '-c', script)).code).toBe(0);
		const several = await world.run('run', '-n', ready.node, '-n', 'second', '--', 'sh', '-c', 'exit 5');
		expect(several.code).toBe(5);
		expect(several.stderr).toContain('second | gpuaas: exit code 5');
	});

	test('a node that refuses does not hide what the other did', async () => {
		await world.run('node', 'cordon', 'second');
		const ran = await world.run('run', '-n', ready.node, '-n', 'second', '--', 'echo', 'hi');
		await world.run('node', 'uncordon', 'second');
		expect(ran.stdout).toBe(`${ready.node} | hi\n`);
		expect(ran.stderr).toMatch(/^second \| gpuaas: .*cordoned/);
		expect(ran.code).toBe(125);
	});

	test('removing it revokes its certificates and ends its stream at once', async () => {
		await world.run('node', 'remove', 'second', '--reason', 'test');
		const { certificates } = await world.json<{ certificates: { state: string; kind: string }[] }>('cert', 'list');
		expect(certificates.filter(({ state }) => state === 'CERTIFICATE_STATE_REVOKED')).toHaveLength(1);
		await eventually('the agent is told', () => /REVOKED|revoked|retired/.test(agent.stderr()));
		const refused = await world.run('run', '-n', 'second', '--', 'true');
		expect(refused.code).toBe(125);
	});
});
