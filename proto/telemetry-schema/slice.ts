import { gpmMetrics } from './gpm.ts';
import { dcgm, gauge, type TelemetryMetric } from './metric.ts';

/** A MIG device. Utilisation is GPM's of its GPU instance (Hopper and newer; on A100 absent). */
const MIB = 1 / 1_048_576;

export const SLICE_VALUES: readonly TelemetryMetric[] = Object.freeze([
	gauge(
		'bytes',
		['memory.total', 'gpuaas_slice_memory_bytes'],
		'nvmlDeviceGetMemoryInfo_v2.total',
		'Memory of the slice.',
	),
	gauge(
		'bytes',
		['memory.used', 'gpuaas_slice_memory_used_bytes'],
		'nvmlDeviceGetMemoryInfo_v2.used',
		'Its memory in use.',
		dcgm('DCGM_FI_DEV_FB_USED', 'Framebuffer memory used (in MiB).', { factor: MIB, whole: 'floor' }),
	),
	gauge(
		'bytes',
		['memory.free', 'gpuaas_slice_memory_free_bytes'],
		'nvmlDeviceGetMemoryInfo_v2.free',
		'Its free memory.',
		dcgm('DCGM_FI_DEV_FB_FREE', 'Framebuffer memory free (in MiB).', { factor: MIB, whole: 'floor' }),
	),
	gauge(
		'bytes',
		['memory.reserved', 'gpuaas_slice_memory_reserved_bytes'],
		'nvmlDeviceGetMemoryInfo_v2.reserved',
		'What the driver keeps of it.',
		dcgm('DCGM_FI_DEV_FB_RESERVED', 'Framebuffer memory reserved (in MiB).', { factor: MIB, whole: 'floor' }),
	),
	gauge('bytes', ['bar1.used', 'gpuaas_slice_bar1_used_bytes'], 'nvmlDeviceGetBAR1MemoryInfo', 'BAR1 in use.'),
	gauge(
		'count',
		['sm.count', 'gpuaas_slice_multiprocessors'],
		'nvmlDeviceGetAttributes_v2',
		'Multiprocessors of the slice.',
		{ max: 1e4 },
	),
	gauge(
		'count',
		['processes.compute', 'gpuaas_slice_compute_processes'],
		'nvmlDeviceGetComputeRunningProcesses_v3',
		'Processes in it.',
		{ max: 1e6 },
	),
	...gpmMetrics('gpuaas_slice'),
]);
