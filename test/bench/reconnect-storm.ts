import { sleep, systemClock } from '../../kit/clock.ts';
import { eventually } from '../eventually.ts';
import type { BareServerReady } from './bare-server-main.ts';
import { BenchChild } from './child.ts';
import type { Usage } from './control-plane-main.ts';
import { cpuUsOf } from './cpu.ts';
import { FleetWorld, HEAP } from './fleet-world.ts';
import { percentile, timed } from './measure.ts';
import { atMost, type Point, type Row } from './row.ts';

/**
 * The control plane is killed (kill -9) under n *simulated* agents and with tasks on their way, is away for a while and
 * comes back on the same data and port: how long after its return until 99 % of the agents, and the last one, are
 * welcomed again, and whether every task ended well. Meanwhile it must keep the links of those who are back: how many
 * of them were lost again, and the longest that one heard nothing. At the largest size it is away three times: 5, 30,
 * 120 s. The targets are about 10,000 agents, which two cores can't both be and serve (README): `--patient` tries them.
 *
 * The reference is the time that as many bare grpc-js mTLS connections with a stream each take, 32 at a time.
 */
const FULL_SIZE = 10_000;
const OUTAGE_S = 5;
const LONG_OUTAGES_S = [30, 120];
const LARGEST = 3000;
/** More take so long that the rate of so many stands for them. */
const BARE_MAX = 1000;
const TASKS = 500;

function whole(text: string, limit: number, of: (point: Point) => (number | undefined)[]) {
	return atMost(limit, text, (point) => worst(point, of));
}

function worst(point: Point, of: (point: Point) => (number | undefined)[]): number | undefined {
	const numbers = of(point).filter((number) => number !== undefined);
	return point.n !== FULL_SIZE || numbers.length === 0 ? undefined : Math.max(...numbers);
}

export const row: Row = {
	name: 'reconnect-storm',
	what: `99 % of n agents are back after an outage of ${OUTAGE_S} s`,
	unit: 's',
	per: 'agents',
	reference: `bare connections and streams (at most ${BARE_MAX}, scaled)`,
	targets: [
		whole('p99 <= 60 s for 10,000 after 5, 30, 120 s', 60, ({ value, also }) => [
			value.median,
			...LONG_OUTAGES_S.map((s) => also[`p99After${s}S`]?.median),
		]),
		whole('last <= 90 s for 10,000 after 5, 30, 120 s', 90, ({ also }) => [
			also.lastS?.median,
			...LONG_OUTAGES_S.map((s) => also[`lastAfter${s}S`]?.median),
		]),
		atMost(0, 'no link lost again', ({ also }) => also.lostAgain?.max),
		atMost(0, 'no task lost', ({ also }) => also.tasksLost?.max),
	],
	sizes: { full: process.argv.includes('--patient') ? [30, 300, LARGEST, FULL_SIZE] : [30, 300, LARGEST], quick: [30] },
	repetitions: { full: 1, quick: 1 },
	budgetSeconds: 700,
	async open() {
		const world = await FleetWorld.open();
		return {
			async run(n) {
				await world.connect(n);
				const first = await storm(world, n, OUTAGE_S);
				const also: Record<string, number> = {};
				let { lostAgain, silentMaxMs, tasksLost } = first;
				for (const outageS of n >= LARGEST ? LONG_OUTAGES_S : []) {
					const later = await storm(world, n, outageS);
					also[`p99After${outageS}S`] = later.p99S;
					also[`lastAfter${outageS}S`] = later.lastS;
					lostAgain += later.lostAgain;
					tasksLost += later.tasksLost;
					silentMaxMs = Math.max(silentMaxMs, later.silentMaxMs);
				}
				await world.disconnect();
				const bare = await bareConnections(world, n);
				const { lastS, cpuMsPerAgent, fleetCpuMsPerAgent } = first;
				const cpu = {
					cpuMsPerAgent,
					fleetCpuMsPerAgent,
					bareCpuMsPerConnection: bare.cpuMs,
					bareFleetCpuMsPerConnection: bare.fleetCpuMs,
				};
				return {
					value: first.p99S,
					reference: bare.seconds,
					also: { lastS, ...also, lostAgain, tasksLost, silentMaxMs, ...cpu },
				};
			},
			[Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
		};
	},
};

async function storm(world: FleetWorld, n: number, outageS: number) {
	const nodeIds = (await world.identities(n)).map(({ nodeId }) => nodeId);
	await world.plane({ ask: 'submit', nodeIds, count: TASKS, callers: 32 });
	await world.kill();
	await sleep(systemClock, outageS * 1000);
	await world.restart();
	const backAtMs = systemClock.now();
	const atReady = await world.usage();
	await world.fleet({ ask: 'forget' });
	const { agents: fleetAtReadyUs = 0 } = world.cpuUs();
	const { connectedAtMs, losses, silentMaxMs } = await world.connected(n);
	const { cpuUs } = await world.usage();
	const { agents: fleetUs = 0 } = world.cpuUs();
	const seconds = connectedAtMs.map((atMs) => (atMs - backAtMs) / 1000);
	return {
		p99S: percentile(seconds, 99),
		lastS: Math.max(...seconds),
		lostAgain: losses,
		silentMaxMs,
		tasksLost: await tasksNotSucceeded(world),
		cpuMsPerAgent: (cpuUs - atReady.cpuUs) / 1000 / n,
		fleetCpuMsPerAgent: (fleetUs - fleetAtReadyUs) / 1000 / n,
	};
}

/** Of all that were ever submitted, once none is open. */
async function tasksNotSucceeded(world: FleetWorld): Promise<number> {
	const counts = await eventually(
		'every task has ended',
		async () => {
			const found = await world.plane<Readonly<Record<string, number>>>({ ask: 'tasks' });
			return OPEN.every((state) => (found[state] ?? 0) === 0) && found;
		},
		300_000,
	);
	return Object.entries(counts).reduce((sum, [state, count]) => sum + (state === 'succeeded' ? 0 : count), 0);
}

const OPEN = ['queued', 'leased', 'running', 'cancelling'];

async function bareConnections(world: FleetWorld, n: number) {
	await using server = new BenchChild('./bare-server-main.ts', world.ready);
	const { standard: address } = (await server.ready) as BareServerReady;
	await using clients = new BenchChild('./bare-fleet-main.ts', {}, HEAP);
	await clients.ready;
	const count = Math.min(n, BARE_MAX);
	const identities = await world.identities(count);
	const before = await server.ask<Usage>('usage');
	const clientsBeforeUs = cpuUsOf(clients.pid);
	const ms = await timed(() => clients.ask({ ask: 'start', address, identities, parallel: 32, heartbeatMs: 10_000 }));
	const { cpuUs } = await server.ask<Usage>('usage');
	const fleetCpuMs = (cpuUsOf(clients.pid) - clientsBeforeUs) / 1000 / count;
	return { seconds: (ms / 1000) * (n / count), cpuMs: (cpuUs - before.cpuUs) / 1000 / count, fleetCpuMs };
}
