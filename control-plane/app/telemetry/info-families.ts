import type { NodeEntry } from './directory.ts';
import type { Labels } from './labels.ts';
import type { NodeSample } from './sample.ts';

/**
 * Series that say what a thing is rather than what it measures, to be joined in queries: so neither a model nor an
 * assignment is a label on every series, and cardinality stays flat from one tenant to the next.
 */
export interface InfoFamily {
	readonly name: string;
	readonly type: 'counter' | 'gauge';
	readonly help: string;
	readonly series: readonly { readonly labels: Labels; readonly value: number }[];
}

export function nodeInfo({ node }: NodeEntry, { nodeId, custody }: NodeSample): InfoFamily {
	const { name, hostname } = node;
	return ofNode('gpuaas_node_info', 'gauge', 'What the node is; always 1.', nodeId, 1, [
		['name', name],
		['hostname', hostname],
		['custody', custody],
	]);
}

export function ageInfo({ nodeId }: NodeSample, ageMs: number): InfoFamily {
	return ofNode('gpuaas_node_telemetry_age_seconds', 'gauge', 'Age of this sample.', nodeId, ageMs / 1000);
}

export function simulatedInfo({ nodeId, simulated }: NodeSample): InfoFamily {
	const help = 'GPU values of this node come from a test double of the driver, not from hardware.';
	return ofNode('gpuaas_node_simulated', 'gauge', help, nodeId, simulated ? 1 : 0);
}

/** One series, of a node. */
export function ofNode(
	name: string,
	type: InfoFamily['type'],
	help: string,
	nodeId: string,
	value: number,
	labels: Labels = [],
): InfoFamily {
	return { name, type, help, series: [{ labels: [['node', nodeId], ...labels], value }] };
}

export function gpuInfo(entry: NodeEntry, sample: NodeSample): InfoFamily {
	const node = ['node', sample.nodeId] as const;
	const driver = entry.identities?.driverVersion ?? '';
	const series = [...(entry.identities?.gpus.values() ?? [])].map((gpu) => ({
		value: 1,
		labels: [
			node,
			['gpu', String(gpu.index)],
			['uuid', gpu.uuid],
			['model', gpu.name],
			['serial', gpu.serial],
			['pci_bus_id', gpu.pciBusId],
			['driver', driver],
			['simulated', String(sample.simulated)],
		] as const,
	}));
	return { name: 'gpuaas_gpu_info', type: 'gauge', help: 'GPUs of the newest inventory; always 1.', series };
}

export function sliceInfo(entry: NodeEntry): InfoFamily {
	const node = ['node', entry.node.id] as const;
	const series = [...(entry.identities?.slices.values() ?? [])].map((slice) => ({
		value: 1,
		labels: [
			node,
			['uuid', slice.uuid],
			['gpu_uuid', slice.gpuUuid],
			['profile', slice.profile],
			['gi', String(slice.gpuInstance)],
			['ci', String(slice.computeInstance)],
		] as const,
	}));
	return { name: 'gpuaas_slice_info', type: 'gauge', help: 'MIG devices of the newest inventory; always 1.', series };
}

/** An assignment of the node covers all its GPUs; one of a slice covers that slice. */
export function assignmentInfo(entry: NodeEntry, namesCustomers: boolean): InfoFamily {
	const node = ['node', entry.node.id] as const;
	const series = entry.assignments.flatMap((assignment) => {
		const { id, mode, sliceId, organization, project } = assignment;
		const uuids = sliceId === '' ? [...(entry.identities?.gpus.keys() ?? [])] : [sliceId];
		const names: Labels = namesCustomers
			? [
					['organization', organization],
					['project', project],
				]
			: [];
		return uuids.map((uuid) => ({
			value: 1,
			labels: [node, ['uuid', uuid], ['assignment', id], ['mode', mode], ...names] as Labels,
		}));
	});
	const help = 'Open assignments by GPU or slice, to join with its series; always 1.';
	return { name: 'gpuaas_gpu_assignment_info', type: 'gauge', help, series };
}
