import { dcgm, gauge, type TelemetryMetric } from './metric.ts';

/**
 * GPU performance monitoring (GPM, Hopper and newer): of a whole GPU or of a MIG GPU instance. A100 has none: absent.
 * NVML gives percent and MiB/s; ours are ratios and bytes per second.
 */
const PIPES: readonly (readonly [key: string, id: number, help: string, dcgmName?: string])[] = [
	['graphics', 1, 'Share of time that a compute or graphics engine was active.', 'GR_ENGINE_ACTIVE'],
	['sm', 2, 'Share of SMs that had work.'],
	['occupancy', 3, 'Resident warps relative to the possible.'],
	['tensor', 5, 'Share of time that any tensor pipe was active.', 'PIPE_TENSOR_ACTIVE'],
	['dram', 10, 'Share of the possible memory bandwidth.', 'DRAM_ACTIVE'],
	['fp64', 11, 'Share of time that the FP64 pipe was active.'],
	['fp32', 12, 'Share of time that the FP32 pipe was active.'],
	['fp16', 13, 'Share of time that the FP16 pipe was active.'],
];

const DCGM_HELP: Readonly<Record<string, string>> = {
	GR_ENGINE_ACTIVE: 'Ratio of time the graphics engine is active.',
	PIPE_TENSOR_ACTIVE: 'Ratio of cycles the tensor (HMMA) pipe is active.',
	DRAM_ACTIVE: 'Ratio of cycles the device memory interface is active sending or receiving data.',
};

const FLOWS: readonly (readonly [key: string, id: number, help: string, dcgmName?: string, dcgmHelp?: string])[] = [
	['pcie_tx', 20, 'Bytes sent over PCIe.', 'PCIE_TX_BYTES', 'The rate of data transmitted over the PCIe bus.'],
	['pcie_rx', 21, 'Bytes received over PCIe.', 'PCIE_RX_BYTES', 'The rate of data received over the PCIe bus.'],
	['nvlink_tx', 61, 'Bytes sent over NVLink.'],
	['nvlink_rx', 60, 'Bytes received over NVLink.'],
];

/** NVML's numbers, in the order of `gpmMetrics`. */
export const GPM_METRICS: readonly { readonly key: string; readonly id: number; readonly isRatio: boolean }[] = [
	...PIPES.map(([key, id]) => ({ key: `gpm.${key}`, id, isRatio: true })),
	...FLOWS.map(([key, id]) => ({ key: `gpm.${key}`, id, isRatio: false })),
];

/** `prefix`: gpuaas_gpu or gpuaas_slice. */
export function gpmMetrics(prefix: string): readonly TelemetryMetric[] {
	return [
		...PIPES.map(([key, id, help, dcgmName]) =>
			gauge('ratio', [`gpm.${key}`, `${prefix}_${key}_active_ratio`], `nvmlGpmMetricsGet ${id}`, help, {
				...(dcgmName === undefined ? {} : dcgm(`DCGM_FI_PROF_${dcgmName}`, DCGM_HELP[dcgmName] ?? help)),
			}),
		),
		...FLOWS.map(([key, id, help, dcgmName, dcgmHelp = help]) =>
			gauge(
				'bytes_per_second',
				[`gpm.${key}`, `${prefix}_${key}_bytes_per_second`],
				`nvmlGpmMetricsGet ${id}`,
				help,
				dcgmName === undefined ? {} : dcgm(`DCGM_FI_PROF_${dcgmName}`, dcgmHelp, { whole: 'floor' }),
			),
		),
	];
}
