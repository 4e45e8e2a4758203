import { toBinary } from '@bufbuild/protobuf';
import { fixtureInventory } from '../../control-plane/app/telemetry/frames-fixture.ts';
import { OpsServer } from '../../control-plane/ops/server.ts';
import { NodeHealthReconciler } from '../../control-plane/reconcilers/node-health.ts';
import { sleep, systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { InventorySchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { monitorDeps } from '../health-monitor.ts';
import { ApiWorld } from '../integration/api-world.ts';
import { percentile } from './measure.ts';
import { nodeRow } from './node-row.ts';
import { atMost, type Row } from './row.ts';
import { decode, frameBytes, GPUS } from './telemetry-fixture.ts';

/**
 * n *simulated* nodes with 8 GPUs each on one control plane, every 15 s a frame from its bytes on, each page scraped once
 * in that time, history written: CPU and memory of the process, and what an API call takes meanwhile. The reference is
 * the same call before the first frame. Links are not in it (see idle-agents); client and scraper share the process.
 * `--patient` watches the largest for ten minutes.
 */
const PERIOD_MS = 15_000;
const WINDOW_MS = 20_000;
const PATIENT_WINDOW_MS = 600_000;
const FULL_SIZE = 10_000;
const TICK_MS = 100;

export const row: Row = {
	name: 'telemetry-fleet',
	what: 'p99 of GetNode while n nodes report',
	unit: 'ms',
	per: 'nodes',
	reference: 'p99 of the same call while none reports',
	targets: [
		atMost(100, '10,000 nodes in < 100 % of a core with scrapes', ({ n, also }) =>
			n === FULL_SIZE ? also.cpuPercent?.median : undefined,
		),
	],
	sizes: { full: [100, 1000, FULL_SIZE], quick: [100] },
	repetitions: { full: 1, quick: 1 },
	budgetSeconds: 240,
	open: async () => ({ run, [Symbol.asyncDispose]: async () => {} }),
};

async function run(n: number) {
	const windowMs = n === FULL_SIZE && process.argv.includes('--patient') ? PATIENT_WINDOW_MS : WINDOW_MS;
	await using world = await ApiWorld.start();
	const ids = await addNodes(world, n);
	const { deps, registry } = world;
	const { telemetry } = deps;
	await telemetry.directory.reload();
	await using reconciler = new NodeHealthReconciler(monitorDeps(deps));
	const health = reconciler.monitor;
	const listen = { host: '127.0.0.1', port: 0 };
	await using ops = await OpsServer.listen({ deps, registry, telemetry, health, listen });
	const url = `http://127.0.0.1:${ops.address.port}/metrics/nodes/`;
	const client = world.client(NodeService, world.operatorKey);
	const call = async () => {
		const startedMs = systemClock.monotonic();
		await client.getNode({ node: ids[0] as string });
		return systemClock.monotonic() - startedMs;
	};
	const quiet = await during(5000, async (latencies) => latencies.push(await call()));
	const bytes = frameBytes();
	let next = 0;
	let scraped = 0;
	const startedMs = systemClock.monotonic();
	const cpu = process.cpuUsage();
	const feeding = during(windowMs, async () => {
		const due = Math.floor(((systemClock.monotonic() - startedMs) / PERIOD_MS) * n);
		for (; next < due; next += 1)
			telemetry.ingest.ingest(ids[next % n] as string, decode(bytes[Math.floor(next / n) % 4] as Uint8Array));
		await sleep(systemClock, TICK_MS);
	});
	const scraping = during(windowMs, async () => {
		const due = Math.min(next, Math.floor(((systemClock.monotonic() - startedMs) / PERIOD_MS) * n));
		for (; scraped < due; scraped += 1) await (await fetch(url + ids[scraped % n])).arrayBuffer();
		await sleep(systemClock, TICK_MS);
	});
	const busy = await during(windowMs, async (latencies) => {
		latencies.push(await call());
		await sleep(systemClock, 20);
	});
	await Promise.all([feeding, scraping]);
	const elapsedMs = systemClock.monotonic() - startedMs;
	const { user, system } = process.cpuUsage(cpu);
	return {
		value: percentile(busy, 99),
		reference: percentile(quiet, 99),
		also: {
			cpuPercent: (user + system) / 10 / elapsedMs,
			rssMB: process.memoryUsage.rss() / 1e6,
			framesPerSecond: (next / elapsedMs) * 1000,
			pagesPerSecond: (scraped / elapsedMs) * 1000,
			p50Ms: percentile(busy, 50),
		},
	};
}

async function addNodes(world: ApiWorld, n: number): Promise<string[]> {
	const inventory = toBinary(InventorySchema, fixtureInventory({ gpus: GPUS }));
	const ids = Array.from({ length: n }, () => uuidv7(systemClock.now(), systemRng));
	for (let from = 0; from < n; from += 500) {
		const some = ids.slice(from, from + 500);
		await world.deps.store.unit(function* (tx) {
			for (const id of some) {
				yield* tx.nodes.insert({ ...nodeRow(id), state: 'available' });
				yield* tx.inventories.put({ nodeId: id, custody: 'platform', digest: 'd', inventory, receivedAtMs: 1 });
			}
		});
	}
	return ids;
}

async function during(ms: number, work: (numbers: number[]) => Promise<unknown>): Promise<number[]> {
	const numbers: number[] = [];
	const startedMs = systemClock.monotonic();
	while (systemClock.monotonic() - startedMs < ms) await work(numbers);
	return numbers;
}
