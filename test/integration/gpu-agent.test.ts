import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../eventually.ts';
import { GpuHost } from './gpu-host.ts';
import { processes, type Ready, UpWorld } from './up-world.ts';

/** The whole way of GPU telemetry in processes of their own: fake driver, probe, agent, mTLS, control plane, ops page. */
const world = new UpWorld();
const host = new GpuHost(world, 'model h100\ngpus 8');
let ready: Ready;
let nodeId: string;

beforeAll(async () => {
	ready = await world.up();
	await host.enroll(ready, 'gpu-1');
	await host.start('gpu.processes=true');
	const { nodes } = await world.json<{ nodes: { id: string; name: string }[] }>('node', 'list');
	nodeId = nodes.find(({ name }) => name === 'gpu-1')?.id ?? '';
});

afterAll(async () => {
	await host.stop();
	await world[Symbol.asyncDispose]();
});

async function page(): Promise<string> {
	return (await fetch(`${ready.ops}/metrics/nodes/${nodeId}`)).text();
}

async function seriesOf(name: string): Promise<string[]> {
	return (await page()).split('\n').filter((line) => line.startsWith(`${name}{`));
}

test('a host without NVIDIA hardware says so, and keeps no probe', async () => {
	const status = await eventually('it was told', async () => {
		const ran = await world.run('agent', 'status', '--data', `${world.data}/agent`);
		return ran.stdout.includes('GPU') && ran.stdout;
	});
	expect(status).toContain('GPUs: none on this host, so no probe runs');
	expect(world.pids(`${world.data}/agent/probe`)).toEqual([]);
});

describe('eight GPUs', () => {
	test('are on the page of their node, each by UUID, in base units', async () => {
		host.kernelSays("NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.");
		const lines = await eventually('they came', async () => {
			const found = await seriesOf('gpuaas_gpu_temperature_celsius');
			return found.length === 8 && found;
		});
		expect(
			lines.some((line) => line.includes('GPU-fa4e0000-0000-4000-8000-000000000007') && line.endsWith(' 47')),
		).toBe(true);
		// Not supported is absent; a slow value came with the first frame.
		expect(await seriesOf('gpuaas_gpu_retired_pages')).toEqual([]);
		expect(await seriesOf('gpuaas_gpu_ecc_enabled')).toHaveLength(8);
	});

	test('are said to be simulated, in the status of the agent too', async () => {
		await eventually('the status was written', () => host.status()?.probe === 'running' && host.status()?.gpus === 8);
		expect(host.status()).toMatchObject({ driver: '570.86.15', isSimulated: true, restarts: 0 });
		const ran = await world.run('agent', 'status', '--data', host.data);
		expect(ran.stdout).toContain(
			'GPU probe: running (8 GPUs, driver 570.86.15 SIMULATED by the test double of the driver)',
		);
	});

	test('have the XID that the kernel told', async () => {
		const shown = async () => (await seriesOf('gpuaas_gpu_last_xid')).filter((line) => line.endsWith(' 79'));
		const [line = ''] = await eventually('it is shown', async () => {
			const lines = await shown();
			return lines.length > 0 && lines;
		});
		// 0000:3b:00 is the third.
		expect(line).toContain('GPU-fa4e0000-0000-4000-8000-000000000002');
		expect(await seriesOf('gpuaas_gpu_last_xid')).toHaveLength(8);
	});
});

/** Runs until `end`; its first process has this number. */
async function long(verb: 'run' | 'exec') {
	const folder = mkdtempSync(join(tmpdir(), 'long-'));
	chmodSync(folder, 0o755);
	const script = `echo "process $$"; while [ -d ${folder} ]; do sleep 0.1; done`;
	const program = world.start([
		verb,
		...(verb === 'run' ? ['-n', 'gpu-1'] : ['gpu-1', '-n']),
		'--',
		'sh',
		'-c',
		script,
	]);
	const line = await program.line((text) => text.startsWith('process '));
	return { pid: Number(line.split(' ')[1]), end: () => rmSync(folder, { recursive: true }), ended: program.ended };
}

interface Shown {
	readonly processes: {
		pid: number;
		memoryBytes?: number;
		smUtilisation?: number;
		taskId?: string;
		terminalId?: string;
	}[];
}

test('processes on a GPU are shown with the task and the terminal that they are of, and on no page', async () => {
	const [task, terminal] = await Promise.all([long('run'), long('exec')]);
	const lines = [`process 2 ${task.pid} 2048 37`, `process 2 ${terminal.pid} 64 1`, 'process 2 1 16 0'];
	host.driver.set(['model h100', 'gpus 8', ...lines].join('\n'));
	const watch = world.start(['telemetry', 'watch', 'gpu-1', '--fast', '--json']);
	const shown = await eventually('they are shown', async () => {
		const found = await world.json<Shown>('gpu', 'show', 'gpu-1/2');
		return found.processes.length === 3 && found.processes;
	});
	const { tasks } = await world.json<{ tasks: { id: string }[] }>('task', 'list');
	const { terminals } = await world.json<{ terminals: { id: string }[] }>('terminal', 'list');
	expect(shown).toMatchObject([
		{ pid: task.pid, memoryBytes: 2048 * 2 ** 20, smUtilisation: 0.37, taskId: tasks[0]?.id },
		{ pid: terminal.pid, memoryBytes: 64 * 2 ** 20, terminalId: terminals[0]?.id },
		{ pid: 1, memoryBytes: 16 * 2 ** 20 },
	]);
	const table = (await world.run('gpu', 'show', 'gpu-1/2')).stdout;
	expect(table).toMatch(new RegExp(`${task.pid} +2 GiB +37 % +task ${tasks[0]?.id}`));
	const metrics = await page();
	// Only a whole value is the process: few digits are a part of some serial number too.
	for (const shown of [`"${task.pid}"`, tasks[0]?.id, terminals[0]?.id]) expect(metrics).not.toContain(shown);
	watch.child.kill('SIGTERM');
	task.end();
	terminal.end();
	await Promise.all([task.ended, terminal.ended]);
	host.driver.set('model h100\ngpus 8');
});

/** A program on a terminal of the node that answers each question, until the folder is gone. */
function dialogue() {
	const folder = mkdtempSync(join(tmpdir(), 'dialogue-'));
	// The account that the policy maps to shall see it.
	chmodSync(folder, 0o755);
	const script = `n=0; while [ -d ${folder} ]; do if [ -e ${folder}/$n ]; then echo "answer $n"; n=$((n+1)); fi; sleep 0.02; done`;
	const program = world.start(['exec', 'gpu-1', '-n', '--', 'sh', '-c', script]);
	return {
		program,
		async ask(question: number) {
			writeFileSync(join(folder, String(question)), '');
			await program.line((line) => line === `answer ${question}`);
		},
		end: () => rmSync(folder, { recursive: true }),
	};
}

/** Those that have the driver's library loaded: no other can make a call into it. */
function holders() {
	const own = processes().filter(({ line }) => line.includes(host.data));
	const maps = (pid: number) => {
		try {
			return readFileSync(`/proc/${pid}/maps`, 'latin1');
		} catch {
			return 'it has ended';
		}
	};
	const holding = own.filter(({ pid }) => maps(pid).includes(host.driver.library));
	return { own, holding };
}

const QUESTIONS = 20;

interface Health {
	readonly verdicts: readonly {
		readonly subject: { readonly kind: string; readonly id: string };
		readonly state: string;
		readonly reasons: readonly { readonly checkId: string }[];
	}[];
}

/** The state of the node, or of a GPU, that names this check as a reason. */
async function verdictBy(checkId: string): Promise<string | undefined> {
	const { verdicts } = await world.json<Health>('node', 'health', 'gpu-1');
	return verdicts.find(({ reasons }) => reasons.some((reason) => reason.checkId === checkId))?.state;
}

const FAST = ['telemetry', 'watch', 'gpu-1', '--fast', '--json'];
const VALUES = 'gpuaas_gpu_temperature_celsius';

/** What the driver does, what is judged of it, and how many GPUs still have values then. */
const TROUBLES: readonly (readonly [what: string, scenario: string, check: string, state: string, left: number])[] = [
	['hangs', 'hang nvmlDeviceGetFieldValues', 'probe.hung', 'UNKNOWN', 0],
	['waits in D', 'dstate nvmlDeviceGetFieldValues', 'probe.hung', 'UNKNOWN', 0],
	// 2.4 s of 8 GPUs, where 2 are given.
	['answers after its deadline', 'delay nvmlDeviceGetUtilizationRates 300', 'probe.slow', 'DEGRADED', 0],
	['loses a GPU', 'lost 3', 'gpu.lost', 'UNHEALTHY', 7],
];

test('a node with an XID of long ago is serviced', async () => {
	await world.run('health', 'evidence', 'gpu-1', 'serviced', '--reason', 'replaced the GPU');
	await eventually('it is well', async () => {
		const { verdicts } = await world.json<Health>('node', 'health', 'gpu-1');
		return verdicts.every(({ state }) => state === 'HEALTH_STATE_HEALTHY');
	});
});

describe.each(TROUBLES)('a driver that %s', (_what, scenario, check, state, left) => {
	test('is judged; tasks and terminals go on, no old value is shown, and the agent stops and starts', async () => {
		await eventually(
			'all is well',
			async () => (await seriesOf(VALUES)).length === 8 && (await verdictBy(check)) === undefined,
		);
		const { own, holding } = holders();
		expect(own.some(({ line }) => /\bagent\/main\.[jt]s/.test(line))).toBe(true);
		// In the agent's own loop one such call would be the last thing that it did.
		expect(holding.map(({ line }) => /agent\/probe\/main\.[jt]s/.test(line))).toEqual([true]);
		// A frame a second; where each is asked for before the one before is late, that is a hang.
		const watch = check === 'probe.slow' ? undefined : world.start(FAST);
		const talk = dialogue();
		await talk.ask(0);
		host.driver.set(`model h100\ngpus 8\n${scenario}`);
		await eventually('it is judged', async () => (await verdictBy(check)) === `HEALTH_STATE_${state}`, 120_000);
		await eventually('no old values', async () => (await seriesOf(VALUES)).length === left);
		expect(await seriesOf('gpuaas_node_load1')).toHaveLength(1);
		const ran = await world.run('run', '-n', 'gpu-1', '--', 'echo', 'still here');
		expect(ran).toMatchObject({ code: 0, stdout: 'still here\n' });
		// Samples go on all the while.
		for (let question = 1; question <= QUESTIONS; question += 1) await talk.ask(question);
		const opened = await world.run('exec', 'gpu-1', '-n', '--', 'echo', 'a terminal, too');
		expect(opened).toMatchObject({ code: 0, stdout: 'a terminal, too\n' });
		talk.end();
		const answers = Array.from({ length: QUESTIONS + 1 }, (_, question) => `answer ${question}\n`).join('');
		expect(await talk.program.ended).toMatchObject({ code: 0, stdout: answers });
		watch?.child.kill('SIGTERM');
		await host.stop();
		host.driver.set('model h100\ngpus 8');
		await host.start();
		await eventually('the next agent has the driver again', () => host.status()?.probe === 'running');
	});
});
