import { sleep, systemClock } from '../../kit/clock.ts';
import type { BareServerReady } from './bare-server-main.ts';
import { BenchChild } from './child.ts';
import type { Usage } from './control-plane-main.ts';
import { FleetWorld, HEAP } from './fleet-world.ts';
import { percentile, timed } from './measure.ts';
import { atMost, type Row } from './row.ts';

/**
 * The control plane is killed (kill -9) under n *simulated* agents, is away for a while and comes back on the same data
 * and port: how long after its return until 99 % of the agents, and the last one, are welcomed again. Meanwhile it must
 * keep the links of those who are back: how many of them were lost again, and the longest that one heard nothing.
 *
 * The reference is the time that as many bare grpc-js mTLS connections with a stream each take, 32 at a time.
 */
const OUTAGE_MS = 5000;
/** More take so long that the rate of so many stands for them. */
const BARE_MAX = 1000;

export const row: Row = {
	name: 'reconnect-storm',
	what: `99 % of n agents are back after an outage of ${OUTAGE_MS / 1000} s`,
	unit: 's',
	per: 'agents',
	reference: `bare connections and streams (at most ${BARE_MAX}, scaled)`,
	targets: [
		atMost(60, 'p99 <= 60 s for 10,000', ({ n, value }) => (n === 10_000 ? value.median : undefined)),
		atMost(90, 'last <= 90 s for 10,000', ({ n, also }) => (n === 10_000 ? also.lastS?.median : undefined)),
		atMost(0, 'no link lost again', ({ also }) => also.lostAgain?.max),
	],
	sizes: { full: [100, 1000, 10_000], quick: [100] },
	repetitions: { full: 1, quick: 1 },
	budgetSeconds: 130,
	async open() {
		const world = await FleetWorld.open();
		return {
			async run(n) {
				await world.connect(n);
				await world.kill();
				await sleep(systemClock, OUTAGE_MS);
				await world.restart();
				const backAtMs = systemClock.now();
				const atReady = await world.usage();
				await world.fleet({ ask: 'forget' });
				const { connectedAtMs, losses, silentMaxMs } = await world.connected(n);
				const seconds = connectedAtMs.map((atMs) => (atMs - backAtMs) / 1000);
				const { cpuUs } = await world.usage();
				await world.disconnect();
				const bare = await bareConnections(world, n);
				const lastS = Math.max(...seconds);
				return {
					value: percentile(seconds, 99),
					reference: bare.seconds,
					also: {
						lastS,
						lostAgain: losses,
						silentMaxMs,
						cpuMsPerAgent: (cpuUs - atReady.cpuUs) / 1000 / n,
						bareCpuMsPerConnection: bare.cpuMs,
					},
				};
			},
			[Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
		};
	},
};

async function bareConnections(world: FleetWorld, n: number) {
	await using server = new BenchChild('./bare-server-main.ts', world.ready);
	const { standard: address } = (await server.ready) as BareServerReady;
	await using clients = new BenchChild('./bare-fleet-main.ts', {}, HEAP);
	await clients.ready;
	const count = Math.min(n, BARE_MAX);
	const identities = await world.identities(count);
	const before = await server.ask<Usage>('usage');
	const ms = await timed(() => clients.ask({ ask: 'start', address, identities, parallel: 32, heartbeatMs: 10_000 }));
	const { cpuUs } = await server.ask<Usage>('usage');
	return { seconds: (ms / 1000) * (n / count), cpuMs: (cpuUs - before.cpuUs) / 1000 / count };
}
