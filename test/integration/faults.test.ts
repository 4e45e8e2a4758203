import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { killQuietly, processes, type Ready, UpWorld } from './up-world.ts';

/** kill -9 of each process while a real task runs: nothing is lost, nothing runs twice, nothing is left behind. */
const world = new UpWorld();
let ready: Ready;

beforeAll(async () => {
	ready = await world.up();
});

afterAll(async () => {
	await world[Symbol.asyncDispose]();
});

function kill(what: 'control-plane/main' | 'agent/main' | 'process-host/main'): void {
	const pids = world.pids(what);
	expect(pids, what).toHaveLength(1);
	for (const pid of pids) killQuietly(pid);
}

const ALL_TICKS = [1, 2, 3, 4, 5, 6].map((tick) => `tick ${tick}\n`).join('');

/** Ticks, before and after what is done to the task in its middle; its exit code and output. */
async function ticking(strike: () => void): Promise<object> {
	// Tasks run as another user, to whom the world's folder is closed.
	const folder = mkdtempSync(join(tmpdir(), 'gpuaas-faults-'));
	chmodSync(folder, 0o755);
	const [struck, again] = ['struck', 'again'].map((name) => `until [ -e ${folder}/${name} ]; do sleep 0.05; done`);
	const script = `echo tick 1; echo tick 2; ${struck}; echo tick 3; echo tick 4; ${again}; echo tick 5; echo tick 6; exit 7`;
	try {
		const run = world.start(['run', '--', 'sh', '-c', script]);
		await run.line((line) => line === 'tick 2');
		strike();
		// What it says while nobody listens, and when somebody does again.
		writeFileSync(join(folder, 'struck'), '');
		await run.line((line) => line === 'tick 4');
		writeFileSync(join(folder, 'again'), '');
		return await run.ended;
	} finally {
		rmSync(folder, { recursive: true });
	}
}

test.each(['control-plane/main', 'agent/main'] as const)(
	'a task survives kill -9 of %s, with all output and its exit code',
	async (what) => {
		expect(await ticking(() => kill(what))).toMatchObject({ code: 7, stdout: ALL_TICKS });
	},
);

test('a task survives kill -9 of both at once', async () => {
	const both = () => {
		kill('control-plane/main');
		kill('agent/main');
	};
	expect(await ticking(both)).toMatchObject({ code: 7, stdout: ALL_TICKS });
});

test('kill -9 of the process host loses the task as HOST_DIED, kills what it ran, and the next task runs', async () => {
	const run = world.start(['run', '--json', '--', 'sh', '-c', 'sleep 76543 & echo started; sleep 76543']);
	await run.line((line) => line.includes('"output"'));
	kill('process-host/main');
	const ended = await run.ended;
	expect(ended.code).toBe(125);
	expect(JSON.parse(ended.stdout.trim().split('\n').at(-1) ?? '')).toMatchObject({
		task: { state: 'TASK_STATE_LOST', reason: 'HOST_DIED' },
	});
	await expect.poll(() => processes().filter(({ line }) => line.includes('sleep 76543')).length).toBe(0);
	expect((await world.run('run', '--', 'echo', 'again')).stdout).toBe('again\n');
});

test('tasks that are submitted in a stream of kills each run exactly once', async () => {
	const marks: Promise<{ code: number | null; stdout: string }>[] = [];
	for (let index = 0; index < 12; index += 1) {
		marks.push(world.run('run', '-n', ready.node, '--', 'echo', `run ${index}`));
		if (index === 3) kill('agent/main');
	}
	const results = await Promise.all(marks);
	for (const [index, result] of results.entries()) expect(result).toMatchObject({ code: 0, stdout: `run ${index}\n` });
	const { tasks } = await world.json<{ tasks: { attempt: number; spec: { run?: { argv: string[] } } }[] }>(
		'task',
		'list',
		'--limit',
		'100',
	);
	const echoes = tasks.filter(({ spec }) => spec.run?.argv[1]?.startsWith('run '));
	expect(echoes).toHaveLength(12);
	for (const { attempt } of echoes) expect(attempt).toBe(1);
});
