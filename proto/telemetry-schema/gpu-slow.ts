import { counter, gauge, type MetricUnit, type TelemetryMetric } from './metric.ts';

/** The slow values of a GPU: limits, modes, error details. In one frame of four. */
const value = (
	unit: MetricUnit,
	key: string,
	name: string,
	source: string,
	help: string,
	extra: Partial<TelemetryMetric> = {},
) => (name.endsWith('_total') ? counter : gauge)(unit, [key, `gpuaas_gpu_${name}`], source, help, extra);

const clockMax = (key: string, id: number) =>
	value(
		'hertz',
		`clock.${key}.max`,
		`${key}_clock_max_hertz`,
		`nvmlDeviceGetMaxClockInfo ${id}`,
		`Highest ${key} clock.`,
	);

const pcieError = (kind: string, field: number) =>
	value('count', `pcie.${kind}`, 'pcie_errors_total', `FI ${field}`, 'PCIe errors by kind.', { labels: { kind } });

const sram = (kind: string, source: string, help: string) =>
	value('count', `sram.${kind}`, 'sram_ecc_errors_total', `nvmlDeviceGetSramEccErrorStatus.${source}`, help, {
		labels: { kind },
	});

const remapBank = (level: string) =>
	value(
		'count',
		`remap.banks.${level}`,
		'row_remap_banks',
		'nvmlDeviceGetRowRemapperHistogram',
		'Memory banks by how many rows they can still remap.',
		{ labels: { available: level } },
	);

const retired = (kind: string, field: number) =>
	value(
		'count',
		`retired.${kind}`,
		'retired_pages',
		`FI ${field}`,
		'Pages retired by kind of error (Volta and older; newer GPUs remap rows).',
		{ labels: { kind } },
	);

const fabricFault = (kind: string) =>
	value(
		'state',
		`fabric.${kind}`,
		'fabric_fault',
		'nvmlDeviceGetGpuFabricInfoV.healthMask',
		'Faults of the NVLink fabric as this GPU sees them: 0 not supported, 1 yes, 2 no.',
		{ labels: { fault: kind }, max: 3 },
	);

export const GPU_SLOW_VALUES: readonly TelemetryMetric[] = Object.freeze([
	value('bytes', 'memory.total', 'memory_bytes', 'nvmlDeviceGetMemoryInfo_v2.total', 'Device memory.'),
	value('bytes', 'bar1.total', 'bar1_bytes', 'nvmlDeviceGetBAR1MemoryInfo', 'BAR1 aperture.'),
	value('bytes', 'bar1.used', 'bar1_used_bytes', 'nvmlDeviceGetBAR1MemoryInfo', 'BAR1 in use.'),
	value('ratio', 'utilisation.jpeg', 'jpeg_utilisation_ratio', 'nvmlDeviceGetJpgUtilization', 'JPEG engine.'),
	value('ratio', 'utilisation.ofa', 'ofa_utilisation_ratio', 'nvmlDeviceGetOfaUtilization', 'Optical flow engine.'),
	value('watts', 'power.default', 'power_default_limit_watts', 'FI 189', 'Power limit after boot.'),
	value('watts', 'power.min', 'power_limit_min_watts', 'FI 187', 'Lowest power limit that may be set.'),
	value('watts', 'power.max', 'power_limit_max_watts', 'FI 188', 'Highest power limit that may be set.'),
	value(
		'watts',
		'power.module',
		'module_power_watts',
		'FI 186 scope 1',
		'Power of the whole module (GH and GB boards).',
	),
	clockMax('graphics', 0),
	clockMax('sm', 1),
	clockMax('memory', 2),
	clockMax('video', 3),
	value(
		'celsius',
		'temperature.shutdown',
		'temperature_shutdown_margin_celsius',
		'FI 193',
		'T.Limit below which the GPU may shut down.',
	),
	value(
		'celsius',
		'temperature.slowdown',
		'temperature_slowdown_margin_celsius',
		'FI 194',
		'T.Limit below which hardware slows it down.',
	),
	value(
		'celsius',
		'temperature.memory_max',
		'temperature_memory_margin_celsius',
		'FI 195',
		'T.Limit below which memory heat slows it down.',
	),
	value(
		'celsius',
		'temperature.gpu_max',
		'temperature_gpu_margin_celsius',
		'FI 196',
		'T.Limit below which it may run under its base clock.',
	),
	value('bool', 'ecc.enabled', 'ecc_enabled', 'FI 1', 'ECC is on.'),
	value('bool', 'ecc.pending', 'ecc_pending', 'FI 2', 'ECC is on after the next reset.'),
	value(
		'count',
		'dram.corrected',
		'dram_ecc_corrected_total',
		'FI 22',
		'Corrected errors of device memory over its life.',
	),
	value(
		'count',
		'dram.uncorrected',
		'dram_ecc_uncorrected_total',
		'FI 23',
		'Uncorrected errors of device memory over its life.',
	),
	sram('corrected', 'aggregateCor', 'SRAM errors over the life of the GPU, by kind.'),
	sram('parity', 'aggregateUncParity', 'SRAM errors over the life of the GPU, by kind.'),
	sram('secded', 'aggregateUncSecDed', 'SRAM errors over the life of the GPU, by kind.'),
	value(
		'bool',
		'sram.threshold',
		'sram_threshold_exceeded',
		'nvmlDeviceGetSramEccErrorStatus.bThresholdExceeded',
		'The GPU passed its limit of uncorrected SRAM errors: field diagnostics are due.',
	),
	...['max', 'high', 'partial', 'low', 'none'].map(remapBank),
	value(
		'count',
		'remap.inactive.correctable',
		'remapped_rows_inactive',
		'FI 301',
		'Remappings that are not in effect, by kind.',
		{ labels: { kind: 'correctable' } },
	),
	value(
		'count',
		'remap.inactive.uncorrectable',
		'remapped_rows_inactive',
		'FI 302',
		'Remappings that are not in effect, by kind.',
		{ labels: { kind: 'uncorrectable' } },
	),
	retired('single_bit', 29),
	retired('double_bit', 30),
	value('bool', 'retired.pending', 'page_retirement_pending', 'FI 31', 'Pages wait for a reset to be retired.'),
	value('count', 'nvlink.links', 'nvlink_links', 'FI 91', 'NVLinks that the GPU has.', { max: 64 }),
	value(
		'count',
		'nvlink.replays',
		'nvlink_replays_total',
		'FI 161 of all links',
		'NVLink packets that were sent again (NVLink 4 and older).',
	),
	value(
		'count',
		'nvlink.recoveries',
		'nvlink_recoveries_total',
		'FI 162 of all links (NVLink 5: FI 215)',
		'Times that an NVLink recovered.',
	),
	value(
		'count',
		'nvlink.crc_errors',
		'nvlink_crc_errors_total',
		'FI 163 of all links',
		'NVLink CRC errors (NVLink 4 and older).',
	),
	value(
		'state',
		'pcie.generation.max',
		'pcie_generation_max',
		'nvmlDeviceGetMaxPcieLinkGeneration',
		'Highest PCIe generation of GPU and slot.',
		{ max: 16 },
	),
	value(
		'count',
		'pcie.width.max',
		'pcie_width_max',
		'nvmlDeviceGetMaxPcieLinkWidth',
		'Most PCIe lanes of GPU and slot.',
		{ max: 64 },
	),
	...(
		[
			'correctable',
			'naks_received',
			'receiver',
			'bad_tlp',
			'naks_sent',
			'bad_dllp',
			'non_fatal',
			'fatal',
			'unsupported_request',
			'lcrc',
			'lane',
		] as const
	).map((kind, index) => pcieError(kind, 173 + index)),
	value('bool', 'mig.enabled', 'mig_enabled', 'nvmlDeviceGetMigMode.current', 'MIG is on.'),
	value('bool', 'mig.pending', 'mig_pending', 'nvmlDeviceGetMigMode.pending', 'MIG is on after the next reset.'),
	value('count', 'mig.slices', 'mig_slices', 'nvmlDeviceGetMigDeviceHandleByIndex', 'MIG devices that exist.', {
		max: 64,
	}),
	value(
		'bool',
		'persistence',
		'persistence_mode',
		'nvmlDeviceGetPersistenceMode',
		'The driver stays loaded without clients.',
	),
	value(
		'state',
		'compute_mode',
		'compute_mode',
		'nvmlDeviceGetComputeMode',
		'0 default, 2 prohibited, 3 one process.',
		{ max: 16 },
	),
	value(
		'count',
		'processes.graphics',
		'graphics_processes',
		'nvmlDeviceGetGraphicsRunningProcesses_v3',
		'Processes with a graphics context.',
		{ max: 1e6 },
	),
	value(
		'count',
		'processes.mps',
		'mps_processes',
		'nvmlDeviceGetMPSComputeRunningProcesses_v3',
		'Processes under MPS.',
		{ max: 1e6 },
	),
	value(
		'state',
		'fabric.state',
		'fabric_state',
		'nvmlDeviceGetGpuFabricInfoV.state',
		'Fabric registration: 0 not supported, 1 not started, 2 in progress, 3 completed.',
		{ max: 16 },
	),
	value(
		'state',
		'fabric.status',
		'fabric_status',
		'nvmlDeviceGetGpuFabricInfoV.status',
		'NVML code of the registration; 0 well.',
		{ max: 1000 },
	),
	value(
		'state',
		'fabric.health',
		'fabric_health',
		'nvmlDeviceGetGpuFabricInfoV.healthSummary',
		'0 not supported, 1 healthy, 2 unhealthy, 3 limited.',
		{ max: 16 },
	),
	fabricFault('degraded_bandwidth'),
	fabricFault('route_recovery'),
	fabricFault('route_unhealthy'),
	fabricFault('access_timeout'),
	value(
		'state',
		'fabric.misconfiguration',
		'fabric_misconfiguration',
		'nvmlDeviceGetGpuFabricInfoV.healthMask',
		'0 not supported, 1 none, 2 system GUID, 3 chassis serial, 4 no partition, 5 too few NVLinks, 6 firmware, 7 location, 8 GPU state.',
		{ max: 16 },
	),
	value(
		'state',
		'fabric.partition',
		'fabric_partition_assigned',
		'nvmlDeviceGetGpuFabricInfoV.healthMask',
		'0 not supported, 1 assigned, 2 not assigned.',
		{ max: 3 },
	),
	value(
		'bool',
		'repair.channel_pending',
		'channel_repair_pending',
		'nvmlDeviceGetRepairStatus',
		'A memory channel waits for repair.',
	),
	value('bool', 'repair.tpc_pending', 'tpc_repair_pending', 'nvmlDeviceGetRepairStatus', 'A TPC waits for repair.'),
	value(
		'bool',
		'memory.unrepairable',
		'memory_unrepairable',
		'nvmlDeviceGetUnrepairableMemoryFlag_v1',
		'Device memory has what can not be repaired.',
	),
	value(
		'bool',
		'confidential.enabled',
		'confidential_compute',
		'nvmlSystemGetConfComputeState',
		'Confidential computing is on.',
	),
	value(
		'bool',
		'confidential.devtools',
		'confidential_devtools',
		'nvmlSystemGetConfComputeState',
		'Its development mode, which protects nothing, is on.',
	),
	value(
		'bool',
		'confidential.ready',
		'confidential_ready',
		'nvmlSystemGetConfComputeGpusReadyState',
		'GPUs accept confidential work.',
	),
]);
