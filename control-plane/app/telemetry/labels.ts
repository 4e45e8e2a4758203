import type { TelemetryPart } from '../../../proto/telemetry-schema/schemas.ts';
import type { NodeEntry } from './directory.ts';
import type { NodeSample, Row } from './sample.ts';
import { xidText } from './xid-text.ts';

/**
 * The labels of a row's series. Ours name things by id; dcgm-exporter's are those that its dashboards and alerts query,
 * in its order. Values of a test double are marked on every series of theirs.
 */
export type Labels = readonly (readonly [name: string, value: string])[];

/** dcgm-exporter renamed it after 4.8: both spellings are in use. */
export type HostnameLabel = 'Hostname' | 'hostname';

const SIMULATED: Labels = [['simulated', 'true']];

export function ownLabels(entry: NodeEntry | undefined, sample: NodeSample, part: TelemetryPart, row: Row): Labels {
	const node = ['node', sample.nodeId] as const;
	const gpus = entry?.identities?.gpus;
	const gpuIndex = (uuid: string) => String(gpus?.get(uuid)?.index ?? '');
	const marked = sample.simulated ? SIMULATED : [];
	switch (part) {
		case 'host':
			return [node];
		case 'gpu':
		case 'gpuSlow':
			return [node, ['gpu', gpuIndex(row.id)], ['uuid', row.id], ...marked];
		case 'slice': {
			const slice = entry?.identities?.slices.get(row.id);
			const gpuUuid = slice?.gpuUuid ?? '';
			const gi = String(slice?.gpuInstance ?? '');
			return [node, ['gpu', gpuIndex(gpuUuid)], ['gpu_uuid', gpuUuid], ['gi', gi], ['uuid', row.id], ...marked];
		}
		case 'nvlink':
			return [node, ['gpu', gpuIndex(row.id)], ['uuid', row.id], ['link', String(row.index)], ...marked];
		case 'ibPort':
			return [node, ['device', row.id], ['port', String(row.index)]];
		case 'disk':
			return [node, ['disk', row.id]];
	}
}

/** Undefined for what dcgm-exporter would not show: a GPU that no inventory names. */
export function dcgmLabels(
	entry: NodeEntry | undefined,
	sample: NodeSample,
	part: TelemetryPart,
	row: Row,
	hostnameLabel: HostnameLabel,
): Labels | undefined {
	const identities = entry?.identities;
	if (entry === undefined || identities === undefined) return undefined;
	const slice = part === 'slice' ? identities.slices.get(row.id) : undefined;
	const gpu = identities.gpus.get(slice?.gpuUuid ?? row.id);
	if (gpu === undefined || (part === 'slice') !== (slice !== undefined)) return undefined;
	return [
		['gpu', String(gpu.index)],
		['UUID', gpu.uuid],
		['pci_bus_id', gpu.pciBusId],
		['device', `nvidia${gpu.minor}`],
		['modelName', gpu.name],
		...(slice === undefined
			? []
			: ([
					['GPU_I_PROFILE', slice.profile],
					['GPU_I_ID', String(slice.gpuInstance)],
				] as const)),
		[hostnameLabel, entry.node.hostname],
		['DCGM_FI_DRIVER_VERSION', identities.driverVersion],
		...(sample.simulated ? SIMULATED : []),
	];
}

/** What dcgm-exporter adds to the series of one metric, depending on its value. */
export function dcgmValueLabels(name: string, value: number): Labels {
	if (name !== 'DCGM_FI_DEV_XID_ERRORS') return NONE;
	return [
		['err_code', String(value)],
		['err_msg', xidText(value)],
	];
}

const NONE: Labels = Object.freeze([]);
