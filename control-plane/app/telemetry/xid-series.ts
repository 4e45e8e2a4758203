import type { NodeEntry } from './directory.ts';
import type { Family } from './families.ts';
import type { Labels } from './labels.ts';
import type { NodeSample } from './sample.ts';
import type { XidCount } from './xid-counts.ts';

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

/**
 * Each GPU has it from the first page on: what first shows as 1 has not increased. Without a GPU: of none that was told.
 * What a drill injected is marked, so that it wakes nobody; of a test double of the driver all is.
 */
export function xidSeries(
	entry: NodeEntry | undefined,
	sample: NodeSample,
	counts: ReadonlyMap<string, XidCount>,
): readonly XidSeries[] {
	const gpus = entry?.identities?.gpus ?? new Map<string, { readonly index: number }>();
	const uuids = new Set([...gpus.keys(), ...(gpus.size > 0 ? [''] : []), ...counts.keys()]);
	return [...uuids].flatMap((uuid): XidSeries[] => {
		const { real, simulated } = counts.get(uuid) ?? { real: 0, simulated: 0 };
		const labels: Labels = [
			['node', sample.nodeId],
			['gpu', String(gpus.get(uuid)?.index ?? '')],
			['uuid', uuid],
		];
		const marked: Labels = [...labels, ['simulated', 'true']];
		if (sample.simulated) return [{ labels: marked, value: real + simulated }];
		return [{ labels, value: real }, ...(simulated > 0 ? [{ labels: marked, value: simulated }] : [])];
	});
}
