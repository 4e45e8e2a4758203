import { gpmMetrics } from './gpm.ts';
import { counter, dcgm, gauge, type MetricUnit, type TelemetryMetric } from './metric.ts';

/** The fast values of a GPU: in every frame. Under MIG utilisation is absent (not 0): the slices have GPM. */
const MIB = 1 / 1_048_576;

function clock(key: string, id: number, help: string, extra = {}): TelemetryMetric {
	return gauge('hertz', [`clock.${key}`, `gpuaas_gpu_${key}_clock_hertz`], `nvmlDeviceGetClockInfo ${id}`, help, extra);
}

function utilisation(key: string, source: string, help: string, extra = {}): TelemetryMetric {
	return gauge('ratio', [`utilisation.${key}`, `gpuaas_gpu_${key}_utilisation_ratio`], source, help, extra);
}

function memory(key: string, help: string, dcgmName: string, dcgmHelp: string): TelemetryMetric {
	return gauge(
		'bytes',
		[`memory.${key}`, `gpuaas_gpu_memory_${key}_bytes`],
		`nvmlDeviceGetMemoryInfo_v2.${key}`,
		help,
		dcgm(dcgmName, dcgmHelp, { factor: MIB, whole: 'floor' }),
	);
}

/** Time in nanoseconds that the clocks were held down for one reason, as seconds. */
function throttled(reason: string, field: number): TelemetryMetric {
	return counter(
		'seconds',
		[`throttled.${reason}`, 'gpuaas_gpu_throttled_seconds_total'],
		`FI ${field}`,
		'Time that clocks were held down, by reason.',
		{ labels: { reason } },
	);
}

function ecc(scope: string, kind: string, field: number): TelemetryMetric {
	return counter(
		'count',
		[`ecc.${scope}.${kind}`, `gpuaas_gpu_ecc_${scope}_errors_total`],
		`FI ${field}`,
		scope === 'volatile' ? 'ECC errors since the driver was loaded.' : 'ECC errors over the life of the GPU.',
		{ labels: { kind } },
	);
}

function remapped(kind: string, field: number, dcgmName: string): TelemetryMetric {
	return gauge(
		'count',
		[`remapped.${kind}`, 'gpuaas_gpu_remapped_rows'],
		`FI ${field}`,
		'Memory rows that were remapped, by the kind of error. Absent while MIG instances exist.',
		{
			labels: { kind },
			...dcgm(dcgmName, `Number of remapped rows for ${kind} errors`, { type: 'counter' }),
		},
	);
}

const value = (
	unit: MetricUnit,
	key: string,
	name: string,
	source: string,
	help: string,
	extra: Partial<TelemetryMetric> = {},
) => (name.endsWith('_total') ? counter : gauge)(unit, [key, `gpuaas_gpu_${name}`], source, help, extra);

export const GPU_VALUES: readonly TelemetryMetric[] = Object.freeze([
	value(
		'state',
		'nvml.status',
		'nvml_status',
		'nvmlDeviceGetHandleByUUID',
		'NVML return code of this sample: 0 well, 15 GPU is lost, 16 reset required; 999 unknown.',
		{ max: 1000 },
	),
	value('seconds', 'nvml.call_max', 'nvml_call_max_seconds', 'probe', 'Slowest call in this sample of this GPU.', {
		max: 1e4,
	}),
	utilisation(
		'gpu',
		'nvmlDeviceGetUtilizationRates',
		'Share of time that a kernel ran.',
		dcgm('DCGM_FI_DEV_GPU_UTIL', 'GPU utilization (in %).', { factor: 100, whole: 'round' }),
	),
	utilisation(
		'memory',
		'nvmlDeviceGetUtilizationRates',
		'Share of time that device memory was read or written.',
		dcgm('DCGM_FI_DEV_MEM_COPY_UTIL', 'Memory utilization (in %).', { factor: 100, whole: 'round' }),
	),
	utilisation(
		'encoder',
		'nvmlDeviceGetEncoderUtilization',
		'Video encoder.',
		dcgm('DCGM_FI_DEV_ENC_UTIL', 'Encoder utilization (in %).', { factor: 100, whole: 'round' }),
	),
	utilisation(
		'decoder',
		'nvmlDeviceGetDecoderUtilization',
		'Video decoder.',
		dcgm('DCGM_FI_DEV_DEC_UTIL', 'Decoder utilization (in %).', { factor: 100, whole: 'round' }),
	),
	memory(
		'used',
		'Device memory in use, without what is reserved.',
		'DCGM_FI_DEV_FB_USED',
		'Framebuffer memory used (in MiB).',
	),
	memory('free', 'Free device memory.', 'DCGM_FI_DEV_FB_FREE', 'Framebuffer memory free (in MiB).'),
	memory(
		'reserved',
		'Device memory that the driver keeps.',
		'DCGM_FI_DEV_FB_RESERVED',
		'Framebuffer memory reserved (in MiB).',
	),
	value(
		'watts',
		'power.usage',
		'power_watts',
		'nvmlDeviceGetPowerUsage',
		'Power draw: the average of a second on Ampere and newer but GA100, there and before the present one.',
		dcgm('DCGM_FI_DEV_POWER_USAGE', 'Power draw (in W).'),
	),
	value('watts', 'power.average', 'power_average_watts', 'FI 185', 'Power draw averaged over one second.'),
	value('watts', 'power.instant', 'power_instant_watts', 'FI 186', 'Power draw now.'),
	value('watts', 'power.limit', 'power_limit_watts', 'FI 190', 'Power limit that is enforced.'),
	value(
		'joules',
		'energy',
		'energy_joules_total',
		'nvmlDeviceGetTotalEnergyConsumption',
		'Energy since the driver was loaded.',
		dcgm('DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION', 'Total energy consumption since boot (in mJ).', {
			factor: 1000,
			type: 'counter',
			whole: 'round',
		}),
	),
	clock('graphics', 0, 'Graphics clock.'),
	clock(
		'sm',
		1,
		'SM clock.',
		dcgm('DCGM_FI_DEV_SM_CLOCK', 'SM clock frequency (in MHz).', { factor: 1e-6, whole: 'round' }),
	),
	clock(
		'memory',
		2,
		'Memory clock.',
		dcgm('DCGM_FI_DEV_MEM_CLOCK', 'Memory clock frequency (in MHz).', { factor: 1e-6, whole: 'round' }),
	),
	clock('video', 3, 'Video clock.'),
	value(
		'state',
		'performance_state',
		'performance_state',
		'nvmlDeviceGetPerformanceState',
		'P-state: 0 the fastest to 15.',
		{ max: 32 },
	),
	value(
		'bitmask',
		'throttle.reasons',
		'throttle_reasons',
		'nvmlDeviceGetCurrentClocksEventReasons',
		'Why clocks are held down now: 1 idle, 4 software power cap, 8 hardware slowdown, 16 sync boost, 32 software thermal, 64 hardware thermal, 128 power brake.',
	),
	throttled('power', 74),
	throttled('sync_boost', 76),
	throttled('sw_thermal', 269),
	throttled('hw_thermal', 270),
	throttled('power_brake', 271),
	value(
		'celsius',
		'temperature.gpu',
		'temperature_celsius',
		'nvmlDeviceGetTemperatureV (before CUDA 12.9: nvmlDeviceGetTemperature)',
		'GPU temperature.',
		dcgm('DCGM_FI_DEV_GPU_TEMP', 'GPU temperature (in C).', { whole: 'round' }),
	),
	value('celsius', 'temperature.memory', 'memory_temperature_celsius', 'FI 82', 'Memory temperature.', {
		max: 200,
		...dcgm('DCGM_FI_DEV_MEMORY_TEMP', 'Memory temperature (in C).', { whole: 'round' }),
	}),
	value(
		'celsius',
		'temperature.margin',
		'temperature_margin_celsius',
		'nvmlDeviceGetMarginTemperature',
		'Distance to the nearest slowdown threshold.',
	),
	ecc('volatile', 'corrected', 3),
	ecc('volatile', 'uncorrected', 4),
	ecc('aggregate', 'corrected', 5),
	ecc('aggregate', 'uncorrected', 6),
	remapped('correctable', 142, 'DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS'),
	remapped('uncorrectable', 143, 'DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS'),
	value('bool', 'remap.pending', 'row_remap_pending', 'FI 144', 'Rows wait for a reset to be remapped.'),
	value(
		'bool',
		'remap.failure',
		'row_remap_failure',
		'FI 145',
		'A row could not be remapped.',
		dcgm('DCGM_FI_DEV_ROW_REMAP_FAILURE', 'Whether remapping of rows has failed'),
	),
	value('count', 'nvlink.active', 'nvlink_active_links', 'nvmlDeviceGetNvLinkState', 'NVLinks that are up.', {
		max: 64,
	}),
	value(
		'bytes',
		'nvlink.tx',
		'nvlink_transmitted_bytes_total',
		'FI 138 (NVLink 5: FI 202)',
		'Data sent over all NVLinks.',
	),
	value(
		'bytes',
		'nvlink.rx',
		'nvlink_received_bytes_total',
		'FI 139 (NVLink 5: FI 204)',
		'Data received over all NVLinks.',
	),
	value(
		'state',
		'pcie.generation',
		'pcie_generation',
		'nvmlDeviceGetCurrPcieLinkGeneration',
		'PCIe generation now; idle GPUs go lower.',
		{ max: 16 },
	),
	value('count', 'pcie.width', 'pcie_width', 'nvmlDeviceGetCurrPcieLinkWidth', 'PCIe lanes in use.', { max: 64 }),
	value(
		'count',
		'pcie.replays',
		'pcie_replays_total',
		'FI 94',
		'PCIe packets that were sent again.',
		dcgm('DCGM_FI_DEV_PCIE_REPLAY_COUNTER', 'Total number of PCIe retries.', { type: 'counter' }),
	),
	value('bytes', 'pcie.tx', 'pcie_transmitted_bytes_total', 'FI 197', 'Bytes sent over PCIe; the driver may wrap it.'),
	value('bytes', 'pcie.rx', 'pcie_received_bytes_total', 'FI 198', 'Bytes received over PCIe; the driver may wrap it.'),
	value(
		'count',
		'processes.compute',
		'compute_processes',
		'nvmlDeviceGetComputeRunningProcesses_v3',
		'Processes with a compute context.',
		{ max: 1e6 },
	),
	...gpmMetrics('gpuaas_gpu'),
	value(
		'state',
		'recovery_action',
		'recovery_action',
		'FI 230',
		"The driver's own wish: 0 none, 1 reset the GPU, 2 reboot the node, 3 drain P2P, 4 drain and reset, 5 recover IMEX.",
		{ max: 64 },
	),
	value(
		'state',
		'xid.last',
		'last_xid',
		'/dev/kmsg',
		'The newest XID of this GPU since the agent started; 0: none. Absent when the kernel log can not be read.',
		{ max: 1e5, ...dcgm('DCGM_FI_DEV_XID_ERRORS', 'Value of the last XID error encountered.') },
	),
]);
