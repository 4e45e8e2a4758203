import { join } from 'node:path';
import { sleep, systemClock } from '../../kit/clock.ts';
import { eventually } from '../eventually.ts';
import { GpuHost } from '../integration/gpu-host.ts';
import { type Ready, UpWorld } from '../integration/up-world.ts';
import { costOf, findProcess } from './process-cost.ts';
import { atMost, type Row } from './row.ts';

/**
 * What measuring costs a host: CPU and memory of the agent and its probe with n GPUs of the fake driver (*simulated*) at
 * 15 s, whole processes connected to a control plane. The reference is the same agent with telemetry turned off, in the
 * same window (`--patient`: ten minutes at the size of the target). Then the driver hangs: how late the agent's event loop was at its worst, and how long its exit took.
 */
const WINDOW_MS = 150_000;
const QUICK_WINDOW_MS = 45_000;
const PATIENT_WINDOW_MS = 600_000;
/** Two frames. */
const HANG_MS = 32_000;
const TARGET_GPUS = 8;

interface Hosts extends AsyncDisposable {
	readonly gpus: GpuHost;
	readonly idle: GpuHost;
}

export const row: Row = {
	name: 'agent-cost',
	what: 'CPU of agent and probe with n simulated GPUs at 15 s',
	unit: '% of a core',
	per: 'GPUs',
	reference: 'the same agent, telemetry off',
	targets: [
		atMost(1, '8 GPUs in < 1 % of a core', ({ n, value }) => (n === TARGET_GPUS ? value.median : undefined)),
		atMost(150, '8 GPUs in < 150 MB PSS', ({ n, also }) => (n === TARGET_GPUS ? also.pssMB?.median : undefined)),
		atMost(50, 'a hang delays the event loop < 50 ms', ({ also }) => also.hangLoopDelayMs?.median),
		atMost(1000, 'exit while the driver hangs < 1 s', ({ also }) => also.hangExitMs?.median),
	],
	sizes: { full: [1, 8, 16], quick: [8] },
	repetitions: { full: 1, quick: 1 },
	budgetSeconds: 700,
	async open() {
		const world = new UpWorld();
		const ready = await world.up();
		let count = 0;
		return {
			async run(n) {
				count += 1;
				await using hosts = await startHosts(world, ready, n, count);
				const measured = await measure(hosts, windowMsOf(n));
				const hang = await measureHang(ready, hosts.gpus, `gpus-${count}`, n);
				return { ...measured, also: { ...measured.also, ...hang } };
			},
			[Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
		};
	},
};

function windowMsOf(n: number): number {
	if (process.argv.includes('--quick')) return QUICK_WINDOW_MS;
	return n === TARGET_GPUS && process.argv.includes('--patient') ? PATIENT_WINDOW_MS : WINDOW_MS;
}

async function startHosts(world: UpWorld, ready: Ready, n: number, count: number): Promise<Hosts> {
	const gpus = new GpuHost(world, `gpus ${n}`, `gpus-${count}`);
	const idle = new GpuHost(world, '', `idle-${count}`);
	await gpus.enroll(ready, `gpus-${count}`);
	await idle.enroll(ready, `idle-${count}`);
	await gpus.start();
	await idle.start('telemetry.enabled=false');
	await eventually('the GPUs are measured', () => gpus.status()?.gpus === n);
	return {
		gpus,
		idle,
		async [Symbol.asyncDispose]() {
			await idle.stop();
			await gpus.stop();
		},
	};
}

async function measure({ gpus, idle }: Hosts, windowMs: number) {
	const pids = {
		agent: findProcess('agent/main', 'run', gpus.data),
		probe: findProcess(join(gpus.data, 'probe', 'call')),
		idle: findProcess('agent/main', 'run', idle.data),
	};
	const costs = () => ({ agent: costOf(pids.agent), probe: costOf(pids.probe), idle: costOf(pids.idle) });
	// What starting left behind is over: the inventory, compilation, the first samples.
	await sleep(systemClock, 10_000);
	const before = costs();
	const startedMs = systemClock.monotonic();
	await sleep(systemClock, windowMs);
	const after = costs();
	const percent = (name: keyof typeof pids) =>
		((after[name].cpuMs - before[name].cpuMs) * 100) / (systemClock.monotonic() - startedMs);
	return {
		value: percent('agent') + percent('probe'),
		reference: percent('idle'),
		also: {
			probePercent: percent('probe'),
			pssMB: after.agent.pssMB + after.probe.pssMB,
			probePssMB: after.probe.pssMB,
			idlePssMB: after.idle.pssMB,
		},
	};
}

async function measureHang(ready: Ready, host: GpuHost, name: string, n: number): Promise<Record<string, number>> {
	const calm = await worstLoopDelay(ready, name, HANG_MS);
	host.driver.set(`gpus ${n}\nhang nvmlDeviceGetFieldValues`);
	const hanging = await worstLoopDelay(ready, name, HANG_MS);
	const startedMs = systemClock.monotonic();
	await host.stop();
	return {
		loopDelayMs: calm,
		hangLoopDelayMs: hanging,
		hangExitMs: systemClock.monotonic() - startedMs,
	};
}

/** Once more when the server closed its connection as we asked, which either side may do (RFC 9112 section 9.3.1). */
async function get(url: string): Promise<string> {
	const answer = await fetch(url).catch(() => fetch(url));
	return await answer.text();
}

/** The longest delay of the agent's event loop that its frames tell within the time, in ms. */
async function worstLoopDelay({ ops }: Ready, name: string, windowMs: number): Promise<number> {
	const untilMs = systemClock.monotonic() + windowMs;
	let worstMs = 0;
	while (systemClock.monotonic() < untilMs) {
		await sleep(systemClock, 1000);
		const targets = JSON.parse(await get(`${ops}/sd/prometheus`)) as SdTarget[];
		const path = targets.find(({ labels }) => Object.values(labels).includes(name))?.labels.__metrics_path__;
		const page = path === undefined ? '' : await get(`${ops}${path}`);
		const seconds = /^gpuaas_agent_eventloop_delay_max_seconds\S* (\S+)$/m.exec(page)?.[1];
		worstMs = Math.max(worstMs, Number(seconds ?? 0) * 1000);
	}
	return worstMs;
}

interface SdTarget {
	readonly labels: Readonly<Record<string, string>> & { readonly __metrics_path__?: string };
}
