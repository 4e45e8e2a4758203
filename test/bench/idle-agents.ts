import { sleep, systemClock } from '../../kit/clock.ts';
import type { BareServerReady } from './bare-server-main.ts';
import { BenchChild } from './child.ts';
import type { Usage } from './control-plane-main.ts';
import { FleetWorld, HEAP } from './fleet-world.ts';
import { atMost, type Row } from './row.ts';

/**
 * What idle agents cost a replica: resident memory of the whole control-plane process with n *simulated* agents
 * connected, and its CPU time while each sends a telemetry frame every 15 s and its heartbeats. The reference is a
 * grpc-js server with as many bare mTLS streams and the same messages, in a process of its own.
 */
const WINDOW_MS = 15_000;
const QUICK_WINDOW_MS = 5000;
/** Below this many the two processes differ by what they have loaded, not by agents. */
const TARGET_AGENTS = 10_000;

export const row: Row = {
	name: 'idle-agents',
	what: 'memory of a control plane with n idle agents',
	unit: 'MB',
	per: 'agents',
	reference: 'bare grpc-js mTLS streams with the same traffic',
	targets: [
		atMost(1700, '10,000 agents in <= 1.7 GB', ({ n, value }) => (n === TARGET_AGENTS ? value.median : undefined)),
		atMost(30, '10,000 agents in < 30 % of a core at 15 s telemetry', ({ n, also }) =>
			n === TARGET_AGENTS ? also.cpuPercent?.median : undefined,
		),
	],
	sizes: { full: [100, 1000, 10_000], quick: [100] },
	repetitions: { full: 1, quick: 1 },
	budgetSeconds: 420,
	async open() {
		const world = await FleetWorld.open();
		return {
			async run(n) {
				const windowMs = n > 1000 || n === 100 ? WINDOW_MS : QUICK_WINDOW_MS;
				const empty = await world.usage();
				await world.connect(n);
				const own = await watch(() => world.usage(), windowMs);
				await world.disconnect();
				const bare = await bareStreams(world, n, windowMs);
				return {
					value: own.rssMB,
					reference: bare.rssMB,
					also: {
						cpuPercent: own.cpuPercent,
						bareCpuPercent: bare.cpuPercent,
						kBPerAgent: ((own.rssMB - empty.rssBytes / 1e6) * 1000) / n,
						bareKBPerStream: bare.kBPerStream,
					},
				};
			},
			[Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
		};
	},
};

async function watch(usage: () => Promise<Usage>, windowMs: number) {
	// What connecting left behind is collected, and the first heartbeats are over.
	await sleep(systemClock, 2000);
	const before = await usage();
	const startedMs = systemClock.monotonic();
	await sleep(systemClock, windowMs);
	const after = await usage();
	const ms = systemClock.monotonic() - startedMs;
	return { rssMB: after.rssBytes / 1e6, cpuPercent: (after.cpuUs - before.cpuUs) / 10 / ms };
}

async function bareStreams(world: FleetWorld, n: number, windowMs: number) {
	await using server = new BenchChild('./bare-server-main.ts', world.ready);
	const { standard: address } = (await server.ready) as BareServerReady;
	await using clients = new BenchChild('./bare-fleet-main.ts', {}, HEAP);
	await clients.ready;
	const empty = await server.ask<Usage>('usage');
	const heartbeatMs = Math.max(10_000, 3 * n) / 3;
	await clients.ask({ ask: 'start', address, identities: await world.identities(n), parallel: 32, heartbeatMs });
	const seen = await watch(() => server.ask<Usage>('usage'), windowMs);
	return { ...seen, kBPerStream: ((seen.rssMB - empty.rssBytes / 1e6) * 1000) / n };
}
