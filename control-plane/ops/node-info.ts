import type { HealthMonitor } from '../app/health/monitor.ts';
import type { NodeEntry } from '../app/telemetry/directory.ts';
import {
	ageInfo,
	assignmentInfo,
	gpuInfo,
	type InfoFamily,
	nodeInfo,
	ofNode,
	simulatedInfo,
	sliceInfo,
} from '../app/telemetry/info-families.ts';
import type { NodeSample } from '../app/telemetry/sample.ts';
import type { XidCounts } from '../app/telemetry/xid-counts.ts';
import { XID_EVENTS, xidSeries } from '../app/telemetry/xid-series.ts';
import { healthFamilies } from './health-metrics.ts';

/** What a node's page has beside its measurements. */
export interface InfoOptions {
	/** Whoever reads this page proved who they are: else an assignment is its id, and no customer's name. */
	readonly namesCustomers: boolean;
	readonly xids: Pick<XidCounts, 'of'>;
	readonly health: Pick<HealthMonitor, 'verdictsOf' | 'isQuarantined'>;
}

export function* infoFamilies(
	entry: NodeEntry | undefined,
	sample: NodeSample,
	ageMs: number,
	options: InfoOptions,
): Generator<InfoFamily> {
	const { nodeId, takenAtMs, receivedAtMs } = sample;
	yield ageInfo(sample, ageMs);
	const dropped = 'Samples that the agent dropped since it started.';
	yield ofNode('gpuaas_node_telemetry_dropped_total', 'counter', dropped, nodeId, sample.dropped);
	const skew = "How far the agent's clock is ahead of the control plane's; negative: behind.";
	yield ofNode('gpuaas_node_clock_skew_seconds', 'gauge', skew, nodeId, (takenAtMs - receivedAtMs) / 1000);
	yield simulatedInfo(sample);
	if (entry === undefined) return;
	yield nodeInfo(entry, sample);
	const indexOf = (uuid: string) => String(entry.identities?.gpus.get(uuid)?.index ?? '');
	yield* healthFamilies(nodeId, indexOf, options.health);
	yield gpuInfo(entry, sample);
	yield { ...XID_EVENTS, series: xidSeries(entry, sample, options.xids.of(nodeId)) };
	yield sliceInfo(entry);
	yield assignmentInfo(entry, options.namesCustomers);
}
