import { statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { processes, type Ready, UpWorld } from './up-world.ts';

/** `gpuaas up` and the command beside it, as a person uses them on one host. */
const world = new UpWorld();
let ready: Ready;

beforeAll(async () => {
	ready = await world.up();
}, 120_000);

afterAll(async () => {
	await world[Symbol.asyncDispose]();
}, 60_000);

describe('gpuaas up', () => {
	test('says in one JSON line where everything is, after a first task that ran', () => {
		expect(ready).toMatchObject({ ready: true, firstTask: { exitCode: 0 } });
		for (const address of [ready.api, ready.gateway, ready.enroll, ready.ops])
			expect(address).toMatch(/127\.0\.0\.1:\d+$/);
	});

	test('keeps keys and the join token from everybody else', () => {
		expect(statSync(join(world.data, 'control-plane', 'operator.key')).mode & 0o077).toBe(0);
		expect(statSync(join(world.data, 'control-plane', 'keys')).mode & 0o077).toBe(0);
		expect(statSync(join(world.data, 'agent', 'identity')).mode & 0o077).toBe(0);
		expect(() => statSync(join(world.data, 'join-token')), 'a used token is removed').toThrow('ENOENT');
		for (const { line } of processes()) expect(line).not.toMatch(/gpu_(jt|uk)_/);
	});

	test('a second up on the live folder attaches and changes nothing', async () => {
		const second = await world.run('up', '--json', '--data', world.data);
		expect(JSON.parse(second.stdout)).toMatchObject({ ready: true, api: ready.api, node: ready.node });
		expect(world.pids('control-plane/main')).toHaveLength(1);
	});

	test('refuses other ports for a live folder, and says what to do', async () => {
		const other = await world.run('up', '--data', world.data, '--api-port', '1');
		expect(other.code).toBe(1);
		expect(other.stderr).toContain('is already up');
	});
});

describe('gpuaas run', () => {
	test('copies both streams as they are and exits as the program did', async () => {
		const ran = await world.run('run', '--', 'sh', '-c', 'echo hi; echo err >&2; exit 3');
		expect(ran).toMatchObject({ code: 3, stdout: 'hi\n', stderr: 'err\n' });
	});

	test('bytes that are no text come through unchanged, megabytes too', async () => {
		const ran = await world.run('run', '--', 'sh', '-c', "printf '\\377\\000\\376'; head -c 3000000 /dev/zero");
		expect(ran.stdout.slice(0, 3)).toBe('\u00ff\u0000\u00fe');
		expect(ran.stdout.length).toBe(3_000_003);
	});

	test('ends with 124 at a timeout, 128+n after a signal, 125 when it could not run', async () => {
		expect((await world.run('run', '--timeout', '300ms', '--', 'sleep', '60')).code).toBe(124);
		expect((await world.run('run', '--', 'sh', '-c', 'kill -9 $$')).code).toBe(137);
		const missing = await world.run('run', '--', '/nonexistent/program');
		expect(missing.code).toBe(125);
		expect(missing.stderr).toContain('nothing was started');
	});

	test('runs as the mapped user with its own groups, no capability and no new privileges', async () => {
		const { stdout } = await world.run(
			'run',
			'--',
			'grep',
			'-E',
			'^(Uid|Groups|CapEff|CapPrm|CapBnd|NoNewPrivs):',
			'/proc/self/status',
		);
		expect(stdout).toMatch(/CapEff:\t0000000000000000/);
		expect(stdout).toMatch(/CapPrm:\t0000000000000000/);
		expect(stdout).toMatch(/NoNewPrivs:\t1/);
		expect(stdout).not.toMatch(/^Uid:\t0\t/m);
		expect(stdout).not.toMatch(/^Groups:.*\b0\b/m);
	});

	test('the environment is what was asked for and nothing of the agent', async () => {
		const { stdout } = await world.run('run', '-e', 'GREETING=hello', '--', 'env');
		expect(stdout).toContain('GREETING=hello');
		expect(stdout).not.toMatch(/NODE_|GPUAAS_CONFIG|npm_/);
	});

	test('--json gives NDJSON that ends with the task', async () => {
		const ran = await world.run('run', '--json', '--', 'echo', 'hi');
		const lines = ran.stdout
			.trim()
			.split('\n')
			.map((line) => JSON.parse(line) as Record<string, unknown>);
		expect(lines.at(-1)).toMatchObject({ event: 'ended', exitCode: 0, task: { state: 'TASK_STATE_SUCCEEDED' } });
		expect(lines[0]).toMatchObject({ event: 'created', node: ready.node });
		const output = lines
			.filter(({ event }) => event === 'output')
			.map(({ base64 }) => Buffer.from(String(base64), 'base64'));
		expect(Buffer.concat(output).toString()).toBe('hi\n');
	});

	test('Ctrl-C cancels the task, and says so', async () => {
		const run = world.start(['run', '--', 'sh', '-c', 'echo started; sleep 60']);
		await run.line((line) => line === 'started');
		run.child.kill('SIGINT');
		const ended = await run.ended;
		expect(ended.stderr).toContain('cancelling');
		expect(ended.code).toBe(143);
	});

	test('--detach prints an id; logs, show and receipt verify work on it', async () => {
		const { stdout } = await world.run('run', '-d', '--', 'sh', '-c', 'echo one; echo two >&2; exit 4');
		const id = stdout.trim();
		const logs = await world.run('task', 'logs', '-f', id);
		expect(logs).toMatchObject({ code: 0, stdout: 'one\n', stderr: 'two\n' });
		const { task } = await world.json<{ task: Record<string, unknown> }>('task', 'show', id);
		expect(task).toMatchObject({ state: 'TASK_STATE_FAILED', exitCode: 4, attempt: 1, custody: 'CUSTODY_PLATFORM' });
		const verified = await world.run('task', 'receipt', 'verify', id);
		expect(verified.stdout).toMatch(
			/^verified: .*signed task .*; node .* signed the result of exactly that envelope: failed, exit code 4/,
		);
	});
});

describe('the other verbs', () => {
	test('a node is cordoned, refuses tasks with the way out, and is uncordoned', async () => {
		await world.run('node', 'cordon', ready.node, '--reason', 'fan noise');
		const refused = await world.run('run', '-n', ready.node, '--', 'true');
		expect(refused.code).toBe(125);
		expect(refused.stderr).toContain('cordoned');
		expect((await world.run('node', 'why', ready.node)).stdout).toContain('fan noise');
		await world.run('node', 'uncordon', ready.node);
		expect((await world.run('run', '-n', ready.node, '--', 'true')).code).toBe(0);
	});

	test('audit verify recomputes the chain against heads that left the database', async () => {
		await expect
			.poll(async () => (await world.run('audit', 'verify')).stdout, { timeout: 20_000 })
			.toMatch(/^verified to anchored head [1-9]\d*\n$/);
	});

	test('audit verify holds the log against the head that the agent kept', async () => {
		const argv = ['audit', 'verify', '--anchors', join(world.data, 'agent', 'audit-head')];
		await expect
			.poll(async () => (await world.run(...argv)).stdout, { timeout: 30_000 })
			.toMatch(/^verified to anchored head/);
	}, 60_000);

	test('doctor finds nothing wrong with the server', async () => {
		const { findings } = await world.json<{ findings: { check: string; result: string; finding: string }[] }>(
			'doctor',
			'--data',
			world.data,
		);
		expect(findings.filter(({ result }) => result === 'fail')).toEqual([]);
		expect(findings.map(({ check }) => check)).toEqual(
			expect.arrayContaining(['server', 'server store', 'clock', 'disk']),
		);
	});

	test('every list answers with JSON', async () => {
		for (const verb of ['node', 'task', 'token', 'cert', 'operation', 'context', 'audit'])
			await world.json(verb, 'list');
		await world.json('ca', 'status');
		await world.json('whoami');
	});
});

describe('stopping', () => {
	test('Ctrl-C gives running tasks five seconds, cancels them, says so, leaves nothing, and the next up goes on', async () => {
		const { stdout } = await world.run('run', '-d', '--', 'sleep', '87654');
		const stopped = await world.stop();
		expect(stopped.code).toBe(0);
		expect(world.pids('main')).toEqual([]);
		expect(processes().filter(({ line }) => line.includes('sleep 87654'))).toEqual([]);
		const again = await world.up();
		expect(again).toMatchObject({ api: ready.api, node: ready.node });
		const { task } = await world.json<{ task: { state: string } }>('task', 'show', stdout.trim());
		expect(task.state).toBe('TASK_STATE_CANCELLED');
	}, 90_000);
});
