import { cpSync, existsSync, lstatSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SUPERSEDED_GRACE_MS } from '../../control-plane/app/enrollment/authorize-stream.ts';
import { systemClock } from '../../kit/clock.ts';
import { eventually } from '../eventually.ts';
import { type Ready, type Started, UpWorld } from './up-world.ts';

/** A second host by the README's three commands (here: a second data folder), and commands over several nodes. */
const world = new UpWorld();
const data = join(world.root, 'second');
const agents: Started[] = [];
let ready: Ready;
let enrolled: Enrolled;
let agent: Started;

interface Enrolled {
	readonly nodeId: string;
	readonly nodeName: string;
}

/** Enrolls a host with the data folder `folder` and one-time token, and writes its policy beside it. */
async function enroll(folder: string, name: string, ...flags: string[]): Promise<Enrolled> {
	mkdirSync(folder, { mode: 0o700 });
	const created = await world.run('token', 'create', '--name', name, ...flags);
	writeFileSync(join(folder, 'token'), created.stdout, { mode: 0o600 });
	const where = ['--data', folder, '--address', ready.enroll, '--token-file', join(folder, 'token')];
	const answer = await world.json<Enrolled>('agent', 'enroll', ...where);
	// Programs on it can tell where they run: by the last folder of their PATH.
	const policy = readFileSync(join(world.data, 'agent.policy.toml'), 'utf8');
	const path = `/usr/local/bin:/usr/bin:/bin:/${name}`;
	writeFileSync(join(folder, 'policy.toml'), policy.replace('[run]\n', `[run]\npath = "${path}"\n`));
	return answer;
}

function start(folder: string): Started {
	const policy = `core.policy=${join(folder, 'policy.toml')}`;
	const settings = [policy, 'tasks.stop_host_with_agent=true', 'terminal.stop_host_with_agent=true'];
	const started = world.start(['agent', 'run', '--data', folder, ...settings.flatMap((each) => ['--set', each])]);
	agents.push(started);
	return started;
}

async function nodeNamed(name: string) {
	const { node } = await world.json<{ node: Record<string, unknown> }>('node', 'show', name);
	return node;
}

beforeAll(async () => {
	ready = await world.up();
	enrolled = await enroll(data, 'second', '--label', 'rack=r2');
	agent = start(data);
	await agent.line((line) => line.includes('"ready":true'));
});

afterAll(async () => {
	for (const started of agents) started.child.kill('SIGTERM');
	await Promise.all(agents.map(({ ended }) => ended));
	await world[Symbol.asyncDispose]();
});

describe('two nodes', () => {
	test('the second one has the name and labels of its token, and the token file is gone', async () => {
		expect(enrolled).toEqual({ nodeId: expect.stringMatching(/^[0-9a-f-]{36}$/), nodeName: 'second' });
		const { nodes } = await world.json<{ nodes: { name: string; labels: object }[] }>('node', 'list', '-l', 'rack=r2');
		expect(nodes).toMatchObject([{ name: 'second', labels: { rack: 'r2' } }]);
		expect(existsSync(join(data, 'token'))).toBe(false);
	});

	test('a command must say which node it means', async () => {
		const refused = await world.run('run', '--', 'true');
		expect(refused.code).toBe(125);
		expect(refused.stderr).toContain('--selector');
	});

	/** Who chooses by `--all` or by labels gets those that are connected now: on a busy machine a link may just be made anew. */
	async function bothConnected(): Promise<void> {
		for (const name of [ready.node, 'second'])
			await eventually(`${name} is connected`, async () => {
				const { connection } = await nodeNamed(name);
				return connection === 'CONNECTION_CONNECTED';
			});
	}

	test('--all prefixes each line with its node, stdout apart from stderr', async () => {
		await bothConnected();
		const ran = await world.run('run', '--all', '--', 'sh', '-c', 'echo out; echo err >&2');
		expect(ran.code).toBe(0);
		expect(ran.stdout.trim().split('\n').sort()).toEqual([`${ready.node} | out`, 'second | out'].sort());
		expect(ran.stderr.trim().split('\n').sort()).toEqual([`${ready.node} | err`, 'second | err'].sort());
	});

	test('--selector reaches the nodes with the label; the exit code of several is the first that is not 0 by name', async () => {
		await bothConnected();
		expect(await world.run('run', '-l', 'rack=r2', '--', 'sh', '-c', 'echo hi; exit 4')).toMatchObject({
			code: 4,
			stdout: 'hi\n',
		});
		// Both run in folders of their own; only one of them has this file.
		const script = `test -e ${join(data, 'journal.db')} && exit 9; exit 0`;
		expect((await world.run('run', '--all', '--', 'sh', '-c', script)).code).toBe(0);
	});

	test('of several that fail, the first by name has the exit code', async () => {
		const first = ready.node < 'second' ? 'other' : 'second';
		for (const [second, other] of [
			[6, 4],
			[4, 6],
		] as const) {
			const script = `case $PATH in */second) exit ${second};; esac; exit ${other}`;
			const ran = await world.run('run', '-n', 'second', '-n', ready.node, '--', 'sh', '-c', script);
			expect(ran.code).toBe(first === 'second' ? second : other);
			expect(ran.stderr).toContain(`second | gpuaas: exit code ${second}`);
			expect(ran.stderr).toContain(`${ready.node} | gpuaas: exit code ${other}`);
		}
	});

	test('a node runs it once, named by name or by id, and its lines have its name', async () => {
		const { nodeId } = enrolled;
		const once = await world.run('run', '-n', nodeId, '-n', 'second', '-n', nodeId, '--', 'echo', 'hi');
		expect(once).toMatchObject({ code: 0, stdout: 'hi\n', stderr: '' });
		const both = await world.run('run', '-n', nodeId, '-n', ready.node, '--', 'echo', 'hi');
		expect(both.stdout.trim().split('\n').sort()).toEqual([`${ready.node} | hi`, 'second | hi'].sort());
		const unknown = await world.run('run', '-n', 'second', '-n', 'nowhere', '--', 'echo', 'hi');
		expect(unknown, 'nothing was started').toMatchObject({ code: 125, stdout: '' });
		expect(unknown.stderr).toContain('nowhere');
	});

	test('a node that refuses does not hide what the other did', async () => {
		await world.run('node', 'cordon', 'second');
		const ran = await world.run('run', '-n', ready.node, '-n', 'second', '--', 'echo', 'hi');
		await world.run('node', 'uncordon', 'second');
		expect(ran.stdout).toBe(`${ready.node} | hi\n`);
		expect(ran.stderr).toMatch(/^second \| gpuaas: .*cordoned/);
		expect(ran.code).toBe(125);
	});

	test('a drain is shown and cancelled, and leaves the node cordoned', async () => {
		const { stdout } = await world.run('run', '-d', '-n', 'second', '--', 'sleep', '600');
		const stateOf = async () => {
			const { task } = await world.json<{ task: { state: string } }>('task', 'show', stdout.trim());
			return task.state;
		};
		await eventually('it runs', async () => (await stateOf()) === 'TASK_STATE_RUNNING');
		const { operationId } = await world.json<{ operationId: string }>('node', 'drain', 'second', '--deadline', '1h');
		const running = await world.run('operation', 'show', operationId);
		expect(running.stdout).toMatch(/^state: +operation state running|^state: +running/m);
		expect(running.stdout).toContain(enrolled.nodeId);
		const cancelled = await world.run('operation', 'cancel', operationId);
		expect(cancelled.stdout).toBe(`operation ${operationId} is cancelled\n`);
		const { operation } = await world.json<{ operation: object }>('operation', 'show', operationId);
		expect(operation).toMatchObject({ kind: 'nodes.drain', state: 'OPERATION_STATE_CANCELLED' });
		expect(await nodeNamed('second')).toMatchObject({ cordoned: true });
		expect(await stateOf()).toBe('TASK_STATE_RUNNING');
		await world.run('node', 'uncordon', 'second');
	});

	test('node drain --wait ends with 0 once nothing runs there, and with 1 when somebody ended the drain', async () => {
		const waiting = world.start(['node', 'drain', 'second', '--deadline', '1h', '--wait']);
		const said = await waiting.errorLine((line) => line.includes('operation'));
		expect(waiting.child.exitCode, 'the task of the test before still runs').toBeNull();
		await world.run('operation', 'cancel', said.split(' ').at(-1) ?? '');
		expect(await waiting.ended).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('cancelled') });
		await world.run('node', 'uncordon', 'second');
		const drained = await world.run('node', 'drain', 'second', '--deadline', '1ms', '--wait');
		expect(drained).toMatchObject({ code: 0, stdout: expect.stringMatching(/^second is drained: nothing runs/) });
		const { tasks } = await world.json<{ tasks: { state: string }[] }>('task', 'list', '-n', 'second');
		expect(tasks.map(({ state }) => state)).not.toContain('TASK_STATE_RUNNING');
		await world.run('node', 'uncordon', 'second');
	});

	test('cert revoke ends the stream of the one that uses it, and of no other', async () => {
		const folder = join(world.root, 'third');
		await enroll(folder, 'third');
		const third = start(folder);
		await third.line((line) => line.includes('"ready":true'));
		await eventually('it is connected', async () => (await nodeNamed('third')).connection === 'CONNECTION_CONNECTED');
		const { certificates } = await world.json<{ certificates: { serial: string }[] }>('cert', 'list', '-n', 'third');
		const [{ serial } = { serial: '' }, ...more] = certificates;
		expect(more).toEqual([]);
		const revoked = await world.run('cert', 'revoke', serial, '--reason', 'key copied off the host');
		expect(revoked.stdout).toBe(`certificate ${serial} is revoked; 1 live stream(s) ended\n`);
		await eventually(
			'its stream is over',
			async () => (await nodeNamed('third')).connection !== 'CONNECTION_CONNECTED',
		);
		await eventually('the agent is told', () => /REVOKED|revoked/.test(third.stderr()));
		expect((await world.run('run', '-n', 'second', '--', 'true')).code).toBe(0);
	});

	test('ca rotate waits for a node that is gone, names it, and goes on without it when told so', async () => {
		await world.run('ca', 'rotate', 'prepare');
		const refusal = await eventually('the others have the new bundle', async () => {
			const { stderr } = await world.run('ca', 'rotate', 'activate');
			return stderr.includes('third') && !stderr.includes('second') && !stderr.includes(ready.node)
				? stderr
				: undefined;
		});
		expect(refusal).toContain('third');
		const waived = await world.run('ca', 'rotate', 'activate', '--waive', 'third', '--reason', 'in repair');
		expect(waived).toMatchObject({ code: 0, stdout: expect.stringMatching(/^rotation: +activated?/m) });
		const { records } = await world.json<{ records: object[] }>('audit', 'list', '--action', 'ca.', '--limit', '1');
		expect(JSON.stringify(records)).toContain('in repair');
	});

	test('node unlock ends the lock of a node whose identity was seen twice', async () => {
		const copy = join(world.root, 'copy');
		agent.child.kill('SIGTERM');
		await agent.ended;
		cpSync(data, copy, { recursive: true, filter: (path) => !lstatSync(path).isSocket() });
		agent = start(data);
		await agent.line((line) => line.includes('"ready":true'));
		await world.run('ca', 'rotate', 'drain', '--waive', 'third', '--reason', 'in repair');
		await eventually('it has renewed', async () => {
			const { certificates } = await world.json<{ certificates: { state: string }[] }>('cert', 'list', '-n', 'second');
			return certificates.some(({ state }) => state === 'CERTIFICATE_STATE_SUPERSEDED');
		});
		// Until then a copy could be its own other connection, is only refused, and comes again in a minute or two.
		const graceOverMs = systemClock.monotonic() + SUPERSEDED_GRACE_MS;
		await eventually(
			'the grace of the certificate before is over',
			() => systemClock.monotonic() > graceOverMs,
			120_000,
		);
		start(copy);
		await eventually('it is locked', async () => (await nodeNamed('second')).locked === true, 120_000);
		expect((await world.run('node', 'show', 'second')).stdout).toMatch(/^lock reason: +two holders of its identity/m);
		const unlocked = await world.run('node', 'unlock', 'second', '--reason', 'the copy is destroyed');
		expect(unlocked).toMatchObject({ code: 0, stdout: 'second is unlocked\n' });
		agents.at(-1)?.child.kill('SIGTERM');
		await agents.at(-1)?.ended;
		const { records } = await world.json<{ records: object[] }>('audit', 'list', '--action', 'nodes.unlock');
		expect(JSON.stringify(records)).toContain('the copy is destroyed');
		expect(await nodeNamed('second')).toMatchObject({ locked: false });
		const isBack = async () => (await world.run('run', '-n', 'second', '--', 'true')).code === 0;
		await eventually('it takes tasks again', isBack, 120_000);
	});

	test('removing it revokes its certificates and ends its stream at once', async () => {
		await world.run('node', 'remove', 'second', '--reason', 'test');
		type Listed = { certificates: { state: string; subjectId: string }[] };
		const { certificates } = await world.json<Listed>('cert', 'list');
		const own = certificates.filter(({ subjectId }) => subjectId === enrolled.nodeId).map(({ state }) => state);
		expect(own).toContain('CERTIFICATE_STATE_REVOKED');
		expect(own).not.toContain('CERTIFICATE_STATE_CURRENT');
		await eventually('the agent is told', () => /REVOKED|revoked|retired/.test(agent.stderr()));
		const refused = await world.run('run', '-n', 'second', '--', 'true');
		expect(refused.code).toBe(125);
	});

	test('a person who enrolls a host reads sentences, and its log where a level was asked for', async () => {
		const said = async (name: string, ...flags: string[]) => {
			const token = join(world.root, `${name}-token`);
			writeFileSync(token, (await world.run('token', 'create', '--name', name)).stdout, { mode: 0o600 });
			const where = ['--data', join(world.root, name), '--address', ready.enroll, '--token-file', token];
			return await world.run('agent', 'enroll', ...where, ...flags);
		};
		const quiet = await said('by-hand');
		expect(quiet).toMatchObject({ code: 0, stderr: '' });
		expect(quiet.stdout).toMatch(/^enrolled as node by-hand \([0-9a-f-]{36}\)\nnext: /);
		const logged = await said('by-log', '--set', 'core.log_level=info');
		expect(logged.stdout).toContain('enrolled as node by-log');
		expect(JSON.parse(logged.stderr)).toMatchObject({ message: 'enrolled', name: 'by-log' });
	});
});
