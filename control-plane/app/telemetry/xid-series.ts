import type { NodeEntry } from './directory.ts';
import type { Family } from './families.ts';
import type { Labels } from './labels.ts';
import type { NodeSample } from './sample.ts';

/** XIDs by GPU as every exporter has them: they are counted here, from facts, and in no frame. */
const NAME = 'gpuaas_xid_events_total';
const HELP = 'XIDs that the driver reported, from health facts of the agent, since this replica started.';

export const XID_EVENTS: Family = {
	names: 'gpuaas',
	name: NAME,
	type: 'counter',
	help: HELP,
	positions: [
		{
			part: 'gpu',
			index: -1,
			metric: {
				key: 'xid.events',
				name: NAME,
				type: 'counter',
				unit: 'count',
				source: 'facts',
				help: HELP,
				min: 0,
				max: Number.MAX_SAFE_INTEGER,
			},
			labels: [],
			convert: (value: number) => value,
		},
	],
};

export interface XidSeries {
	readonly labels: Labels;
	readonly value: number;
}

/** Each GPU has it from the first page on: what first shows as 1 has not increased. Without a GPU: of none that was told. */
export function xidSeries(
	entry: NodeEntry | undefined,
	sample: NodeSample,
	counts: ReadonlyMap<string, number>,
): readonly XidSeries[] {
	const gpus = entry?.identities?.gpus ?? new Map<string, { readonly index: number }>();
	const marked: Labels = sample.simulated ? [['simulated', 'true']] : [];
	const uuids = new Set([...gpus.keys(), ...(gpus.size > 0 ? [''] : []), ...counts.keys()]);
	return [...uuids].map((uuid) => ({
		value: counts.get(uuid) ?? 0,
		labels: [['node', sample.nodeId], ['gpu', String(gpus.get(uuid)?.index ?? '')], ['uuid', uuid], ...marked],
	}));
}
