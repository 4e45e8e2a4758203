import { monitorEventLoopDelay } from 'node:perf_hooks';
import { toBinary } from '@bufbuild/protobuf';
import { fixtureInventory } from '../../control-plane/app/telemetry/frames-fixture.ts';
import { OpsServer } from '../../control-plane/ops/server.ts';
import { NodeHealthReconciler } from '../../control-plane/reconcilers/node-health.ts';
import { keepAlive, sleep, systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { InventorySchema } from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { monitorDeps } from '../health-monitor.ts';
import { ApiWorld } from '../integration/api-world.ts';
import { serveParent } from './child.ts';
import { nodeRow } from './node-row.ts';
import { decode, frameBytes, GPUS } from './telemetry-fixture.ts';

/**
 * The control plane of `telemetry-fleet`, alone in its process: API, pages, health monitor, history. Frames come from
 * their bytes on, as the gateway hands them over; links are not in it.
 */
export interface FleetTelemetrySettings {
	readonly nodes: number;
	readonly periodMs: number;
}

export interface FleetTelemetryReady {
	readonly url: string;
	readonly rootPem: string;
	readonly key: string;
	readonly pagesPort: number;
	readonly nodeIds: readonly string[];
}

export type FleetTelemetryQuestion =
	/** From now on each node reports once a period, evenly spread over it. */
	| 'feed'
	/** Since the last question. */
	| 'usage';

export interface FleetTelemetryUsage {
	readonly ms: number;
	readonly cpuUs: number;
	readonly rssBytes: number;
	readonly frames: number;
	readonly framesDue: number;
	readonly framesRefused: number;
	/** How much later than it should a timer fired. */
	readonly loopLateMsMax: number;
}

/** Of 10,000 nodes some three report in it. */
const TICK_MS = 5;

const { nodes, periodMs } = JSON.parse(process.argv[2] ?? '') as FleetTelemetrySettings;
const unlimited = { perSecond: 1e9, burst: 1e9 };
using _alive = keepAlive();
await using world = await ApiWorld.start({
	// One caller stands for all: what is measured is the work of a call, not the limit of an address.
	api: { perAddress: unlimited, perPrincipal: { read: unlimited, write: unlimited, stream: unlimited } },
});
const { deps, registry } = world;
const { telemetry } = deps;
const nodeIds = await addNodes();
await telemetry.directory.reload();
await using reconciler = new NodeHealthReconciler(monitorDeps(deps));
const health = reconciler.monitor;
await using ops = await OpsServer.listen({ deps, registry, telemetry, health, listen: { host: '127.0.0.1', port: 0 } });
const bytes = frameBytes();
const loop = monitorEventLoopDelay({ resolution: 1 });
loop.enable();
let frames = 0;
let fedFromMs = Number.POSITIVE_INFINITY;
let last = totals();
const ready: FleetTelemetryReady = {
	url: world.url,
	rootPem: world.rootPem,
	key: world.operatorKey,
	pagesPort: ops.address.port,
	nodeIds,
};
await serveParent<FleetTelemetryQuestion>(ready, async (question) => {
	if (question === 'feed') void feed();
	return usage();
});
// Its profile is written on a plain exit; nothing that is measured happens after the parent is gone.
process.exit();

async function feed(): Promise<void> {
	fedFromMs = systemClock.monotonic();
	for (;;) {
		for (const due = framesDue(); frames < due; frames += 1) {
			const frame = bytes[Math.floor(frames / nodes) % bytes.length] as Uint8Array;
			telemetry.ingest.ingest(nodeIds[frames % nodes] as string, decode(frame));
		}
		await sleep(systemClock, TICK_MS);
	}
}

function framesDue(): number {
	return Math.max(0, Math.floor(((systemClock.monotonic() - fedFromMs) / periodMs) * nodes));
}

function totals() {
	const { user, system } = process.cpuUsage();
	const framesRefused = [...telemetry.ingest.refused.values()].reduce((sum, count) => sum + count, 0);
	return { atMs: systemClock.monotonic(), cpuUs: user + system, frames, framesDue: framesDue(), framesRefused };
}

function usage(): FleetTelemetryUsage {
	const now = totals();
	const before = last;
	last = now;
	const loopLateMsMax = loop.max / 1e6;
	loop.reset();
	return {
		ms: now.atMs - before.atMs,
		cpuUs: now.cpuUs - before.cpuUs,
		rssBytes: process.memoryUsage.rss(),
		frames: now.frames - before.frames,
		framesDue: now.framesDue - before.framesDue,
		framesRefused: now.framesRefused - before.framesRefused,
		loopLateMsMax,
	};
}

async function addNodes(): Promise<string[]> {
	const inventory = toBinary(InventorySchema, fixtureInventory({ gpus: GPUS }));
	const ids = Array.from({ length: nodes }, () => uuidv7(systemClock.now(), systemRng));
	for (let from = 0; from < nodes; from += 500) {
		const some = ids.slice(from, from + 500);
		await deps.store.unit(function* (tx) {
			for (const id of some) {
				yield* tx.nodes.insert({ ...nodeRow(id), state: 'available' });
				yield* tx.inventories.put({ nodeId: id, custody: 'platform', digest: 'd', inventory, receivedAtMs: 1 });
			}
		});
	}
	return ids;
}
