import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dispatch } from '../../cli/dispatch.ts';
import { testIo } from '../../cli/test-io.ts';
import type { Ports } from '../../cli/up/ports.ts';
import { systemClock } from '../../kit/clock.ts';
import { eventually } from '../eventually.ts';
import { freePort } from '../free-port.ts';
import { processes, type Ready, UpWorld } from './up-world.ts';

/** `gpuaas up` and the command beside it, as a person uses them on one host. */
const world = new UpWorld();
let ready: Ready;
let ports: Ports;

beforeAll(async () => {
	ports = { api: await freePort(), gateway: await freePort(), enroll: await freePort(), ops: await freePort() };
	const chosen = Object.entries(ports).flatMap(([name, port]) => [`--${name}-port`, String(port)]);
	// Of tasks that end well, the logs tell at this level only.
	ready = await world.up(...chosen, '--log-level', 'debug');
});

afterAll(async () => {
	await world[Symbol.asyncDispose]();
});

function addresses({ api, gateway, enroll, ops }: Ports) {
	const host = '127.0.0.1';
	return {
		api: `https://${host}:${api}`,
		gateway: `${host}:${gateway}`,
		enroll: `${host}:${enroll}`,
		ops: `http://${host}:${ops}`,
	};
}

async function stateOf(task: string): Promise<string> {
	return (await world.json<{ task: { state: string } }>('task', 'show', task)).task.state;
}

async function runs(task: string): Promise<void> {
	await eventually('the task runs', async () => (await stateOf(task)) === 'TASK_STATE_RUNNING');
}

describe('gpuaas up', () => {
	test('says in one JSON line where everything is, after a first task that ran', () => {
		expect(ready).toMatchObject({ ready: true, firstTask: { exitCode: 0 } });
	});

	test('listens on the four ports that were chosen', () => {
		expect(ready).toMatchObject(addresses(ports));
	});

	test('keeps keys and the join token from everybody else', () => {
		expect(statSync(join(world.data, 'control-plane', 'operator.key')).mode & 0o077).toBe(0);
		expect(statSync(join(world.data, 'control-plane', 'keys')).mode & 0o077).toBe(0);
		expect(statSync(join(world.data, 'agent', 'identity')).mode & 0o077).toBe(0);
		expect(() => statSync(join(world.data, 'join-token')), 'a used token is removed').toThrow('ENOENT');
		// Other worlds may be beside this one.
		const own = processes().filter(({ line }) => line.includes(world.root));
		for (const { line } of own) expect(line).not.toMatch(/gpu_(jt|uk)_/);
	});

	test('a second up on the live folder attaches and changes nothing', async () => {
		const second = await world.run('up', '--json', '--data', world.data);
		expect(JSON.parse(second.stdout)).toMatchObject({ ready: true, api: ready.api, node: ready.node });
		// One line, for a program.
		expect([second.stdout.trimEnd().split('\n').length, second.stderr]).toEqual([1, '']);
		expect(world.pids('control-plane/main')).toHaveLength(1);
	});

	test('a second control plane on its database is refused, also on ports of its own', async () => {
		const config = join(world.data, 'control-plane.toml');
		const ports = ['api', 'gateway', 'enroll', 'ops'].flatMap((name) => ['--set', `${name}.port=0`]);
		const second = await world.run('control-plane', 'serve', '--config', config, ...ports);
		expect(second.code).toBe(1);
		const [first] = world.pids('control-plane/main');
		expect(second.stderr).toContain(`process ${first} runs a control plane on ${world.data}`);
	});

	test('refuses other ports for a live folder, and says what to do', async () => {
		const other = await world.run('up', '--data', world.data, '--api-port', '1');
		expect(other.code).toBe(1);
		expect(other.stderr).toContain('is already up');
	});

	test('refuses another store for a live folder, and says what to do', async () => {
		const other = await world.run(
			'up',
			'--json',
			'--data',
			world.data,
			'--store',
			'postgres://gpuaas@127.0.0.1:1/none',
		);
		expect(other.code).toBe(1);
		const refusal = { reason: 'ALREADY_EXISTS', message: expect.stringMatching(/already up .* with SQLite; stop it/) };
		expect(JSON.parse(other.stdout)).toMatchObject({ error: refusal });
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

describe('correlation ids', () => {
	/** Lines of a daemon's log that have both texts. */
	const lines = (daemon: string, ...texts: readonly string[]) =>
		readFileSync(join(world.data, 'logs', `${daemon}.log`), 'utf8')
			.split('\n')
			.filter((line) => texts.every((text) => line.includes(text)));

	test('one is in the task, in the log of its agent, and in the control plane’s at its begin and end', async () => {
		const { stdout } = await world.run('run', '-d', '--', 'true');
		const id = stdout.trim();
		expect((await world.run('task', 'logs', '-f', id)).code).toBe(0);
		const { task } = await world.json<{ task: { correlationId: string } }>('task', 'show', id);
		const { correlationId } = task;
		expect(correlationId).toMatch(/^[0-9a-f-]{36}$/);
		await expect.poll(() => lines('agent', id, correlationId, 'ended a task')).toHaveLength(1);
		await expect.poll(() => lines('control-plane', id, correlationId, 'task queued')).toHaveLength(1);
		await expect.poll(() => lines('control-plane', id, correlationId, 'a task ended')).toHaveLength(1);
	});

	test('a refused call prints the one that the command sent, under which the control plane wrote it down', async () => {
		const refused = await world.run('task', 'show', '0198a1b2-0000-7000-8000-000000000001');
		const [, correlationId = 'none'] = /\(correlation id ([0-9a-f-]{36})\)/.exec(refused.stderr) ?? [];
		await expect.poll(() => lines('control-plane', correlationId, 'a request was refused')).toHaveLength(1);
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
			.poll(async () => (await world.run('audit', 'verify')).stdout)
			.toMatch(/^verified to anchored head [1-9]\d*\n$/);
	});

	test('audit verify holds the log against the head that the agent kept', async () => {
		const argv = ['audit', 'verify', '--anchors', join(world.data, 'agent', 'audit-head')];
		await expect.poll(async () => (await world.run(...argv)).stdout).toMatch(/^verified to anchored head/);
	});

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

	test('doctor finds a clock that is wrong', async () => {
		const io = { ...testIo(world.env()), clock: { ...systemClock, now: () => systemClock.now() + 95_000 } };
		expect(await dispatch(['doctor', '--data', world.data, '--json'], io)).toBe(1);
		const { findings } = JSON.parse(io.out()) as { findings: { check: string; result: string }[] };
		expect(findings.find(({ check }) => check === 'clock')).toMatchObject({
			result: 'fail',
			// Less what half of its answer took.
			finding: expect.stringMatching(/^the server is (8\d|9\d)\.\d s behind this host/),
			advice: expect.stringContaining('NTP'),
		});
	});

	test('audit export is whole: audit verify finds what was changed in it', async () => {
		const file = join(world.root, 'audit.ndjson');
		const key = join(world.data, 'control-plane', 'audit.vkey');
		const verify = () => world.run('audit', 'verify', '--file', file, '--key', key);
		await eventually('a head is signed', async () => {
			// As it came, byte for byte.
			writeFileSync(file, (await world.run('audit', 'export')).stdout, 'latin1');
			return (await verify()).stdout.startsWith('verified to anchored head ');
		});
		const lines = readFileSync(file, 'latin1').trimEnd().split('\n');
		const first = JSON.parse(lines[0] ?? '') as { seq: string; clear: string };
		expect(first.seq).toBe('1');
		writeFileSync(file, lines.toSpliced(1, 1).join('\n'), 'latin1');
		expect(await verify()).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('NOT verified') });
		writeFileSync(file, `${lines.join('\n')}\n{"seq":"x"}\n`, 'latin1');
		expect((await verify()).stderr).toContain('is damaged');
	});

	test('task cancel ends a running task', async () => {
		const started = await world.run('run', '-d', '--', 'sleep', '600');
		expect(started).toMatchObject({ code: 0, stderr: '' });
		const id = started.stdout.trim();
		await runs(id);
		expect((await world.run('task', 'cancel', id, '--grace', '1s')).stdout).toMatch(new RegExp(`^task ${id}: cancell`));
		await eventually('it is cancelled', async () => (await stateOf(id)) === 'TASK_STATE_CANCELLED');
		expect((await world.run('task', 'cancel', id)).stdout).toBe(`task ${id}: cancelled\n`);
	});

	test('run --user is the account that the task asks for, and the policy decides', async () => {
		const user = (await world.run('run', '--', 'id', '-un')).stdout.trim();
		expect(await world.run('run', '--user', user, '--', 'id', '-un')).toMatchObject({ code: 0, stdout: `${user}\n` });
		const other = await world.run('run', '--user', 'bin', '--', 'id', '-un');
		expect(other).toMatchObject({ code: 125, stdout: '', stderr: expect.stringContaining('bin') });
	});

	test('token revoke makes a token useless', async () => {
		const made = await world.json<{ token: { id: string }; joinToken: string }>('token', 'create', '--name', 'never');
		const file = join(world.root, 'revoked-token');
		writeFileSync(file, made.joinToken, { mode: 0o600 });
		expect((await world.run('token', 'revoke', made.token.id)).stdout).toBe(`token ${made.token.id} is revoked\n`);
		const data = join(world.root, 'never');
		const argv = ['agent', 'enroll', '--json', '--data', data, '--address', ready.enroll, '--token-file', file];
		const refused = await world.run(...argv);
		expect(refused.code).toBe(1);
		expect(JSON.parse(refused.stdout)).toMatchObject({ error: { message: expect.stringContaining('revoked') } });
		expect((await world.json<{ nodes: object[] }>('node', 'list')).nodes).toHaveLength(1);
	});

	test('login --key-file makes a context, which is shown, used, left and forgotten', async () => {
		const key = join(world.data, 'control-plane', 'operator.key');
		const login = ['login', ready.api, '--ca', ready.ca, '--key-file', key, '--name', 'by-file'];
		expect((await world.run(...login)).stdout).toContain('context by-file is current');
		const current = async () => (await world.json<{ name: string }>('context', 'show')).name;
		expect(await current()).toBe('by-file');
		const shown = await world.run('context', 'show', 'by-file');
		expect(shown.stdout).toContain(ready.api);
		expect(shown.stdout).not.toContain(readFileSync(key, 'utf8').trim());
		expect((await world.run('whoami')).code).toBe(0);
		await world.run('context', 'use', 'local');
		expect(await current()).toBe('local');
		await world.run('context', 'remove', 'by-file');
		const { contexts } = await world.json<{ contexts: { name: string }[] }>('context', 'list');
		expect(contexts.map(({ name }) => name)).toEqual(['local']);
		expect(readFileSync(join(world.root, 'config', 'contexts.json'), 'utf8')).not.toContain('by-file');
		writeFileSync(join(world.root, 'no-key'), 'gpu_uk_wrong');
		const wrong = await world.run(...login.with(5, join(world.root, 'no-key')));
		expect(wrong.code).toBe(1);
	});

	test('every list answers with JSON', async () => {
		for (const verb of ['node', 'task', 'token', 'cert', 'operation', 'context', 'audit'])
			await world.json(verb, 'list');
		await world.json('ca', 'status');
		await world.json('whoami');
	});
});

describe('stopping', () => {
	test('Ctrl-C cancels what runs, leaves nothing, and the next up goes on with the same ports', async () => {
		const { stdout } = await world.run('run', '-d', '--', 'sleep', '87654');
		await runs(stdout.trim());
		const stopped = await world.stop();
		expect(stopped.code).toBe(0);
		expect(world.pids('main')).toEqual([]);
		expect(processes().filter(({ line }) => line.includes('sleep 87654'))).toEqual([]);
		const again = await world.up();
		expect(again).toMatchObject({ ...addresses(ports), node: ready.node });
		expect(await stateOf(stdout.trim())).toBe('TASK_STATE_CANCELLED');
		await world.stop();
	});

	test('the screen says where everything is and what to try; Ctrl-C gives what runs its five seconds, and says so', async () => {
		const up = world.start(['up', '--data', world.data]);
		await up.line((line) => line === 'Ctrl-C stops everything.');
		const screen = up.stdout();
		expect(screen).toContain(`GPUaaS is up. One control plane, one node: ${ready.node}.`);
		expect(screen).toContain(`  API         ${ready.api}   (context local)`);
		expect(screen).toContain(`  roots       ${ready.ca}\n`);
		expect(screen).toContain(`  metrics     ${ready.ops}/metrics`);
		expect(screen).toMatch(/^ {2}first task {2}ok: hello from /m);
		for (const verb of ["run -- sh -c 'echo hi; exit 3'", `node why ${ready.node}`, 'audit verify'])
			expect(screen).toMatch(new RegExp(`^ {2}\\S*gpuaas ${verb.replaceAll(/[$()*+.?[\\\]^{|}]/g, '\\$&')}$`, 'm'));

		const second = world.start(['up', '--data', world.data]);
		await second.line((line) => line === 'Ctrl-C detaches; everything goes on.');
		expect(second.stderr()).toMatch(/^already up \(process \d+\); attaching, Ctrl-C detaches\n/);
		expect(second.stdout()).toContain(ready.api);
		second.child.kill('SIGINT');
		expect((await second.ended).code).toBe(0);
		expect(await world.run('run', '--', 'echo', 'still here')).toMatchObject({ code: 0, stdout: 'still here\n' });

		// Tasks run as another user, to whom the world's folder is closed.
		const folder = mkdtempSync(join(tmpdir(), 'gpuaas-stop-'));
		chmodSync(folder, 0o755);
		const wait = `until test -e ${folder}/go; do sleep 0.05; done; exit 7`;
		const ends = (await world.run('run', '-d', '--', 'sh', '-c', wait)).stdout.trim();
		const stays = (await world.run('run', '-d', '--', 'sleep', '87653')).stdout.trim();
		for (const task of [ends, stays]) await runs(task);
		up.child.kill('SIGINT');
		await up.errorLine((line) => line === '2 running task(s) are cancelled in 5 s; Ctrl-C again cancels them now');
		writeFileSync(join(folder, 'go'), '');
		const stopped = await up.ended;
		rmSync(folder, { recursive: true });
		expect(stopped).toMatchObject({ code: 0 });
		expect(stopped.stderr).toMatch(/\nstopping\n(.*\n)*cancelling 1 task\(s\)\neverything is stopped; /);
		await world.up();
		const resultOf = async (id: string) => (await world.json<{ task: object }>('task', 'show', id)).task;
		expect(await resultOf(ends)).toMatchObject({ state: 'TASK_STATE_FAILED', exitCode: 7 });
		expect(await resultOf(stays)).toMatchObject({ state: 'TASK_STATE_CANCELLED' });
	});
});
