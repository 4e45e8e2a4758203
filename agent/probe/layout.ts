/**
 * How NVML lays out its structures on 64-bit Linux (from its public interface, 13.3): sizes and offsets in bytes, and the
 * version word that goes into the first four of those that have one (size | version << 24). The fake driver under
 * test/fakes/nvml is compiled against this very table, so that a wrong number fails there and not on a GPU.
 */
export interface StructLayout {
	readonly size: number;
	/** Present: the structure begins with `size | version << 24`. */
	readonly version?: number;
	readonly offsets: Readonly<Record<string, number>>;
}

const struct = <Offsets extends Record<string, number>>(size: number, offsets: Offsets, version?: number) =>
	Object.freeze({ size, offsets, ...(version === undefined ? {} : { version }) });

export const LAYOUT = Object.freeze({
	nvmlUtilization_t: struct(8, { gpu: 0, memory: 4 }),
	nvmlMemory_t: struct(24, { total: 0, free: 8, used: 16 }),
	nvmlMemory_v2_t: struct(40, { total: 8, reserved: 16, free: 24, used: 32 }, 2),
	nvmlBAR1Memory_t: struct(24, { bar1Total: 0, bar1Free: 8, bar1Used: 16 }),
	nvmlPciInfo_t: struct(68, { domain: 16, pciDeviceId: 28, pciSubSystemId: 32, busId: 36 }),
	nvmlFieldValue_t: struct(40, {
		fieldId: 0,
		scopeId: 4,
		timestamp: 8,
		latencyUsec: 16,
		valueType: 24,
		nvmlReturn: 28,
		value: 32,
	}),
	nvmlProcessInfo_t: struct(24, { pid: 0, usedGpuMemory: 8, gpuInstanceId: 16, computeInstanceId: 20 }),
	nvmlProcessUtilizationSample_t: struct(32, {
		pid: 0,
		timeStamp: 8,
		smUtil: 16,
		memUtil: 20,
		encUtil: 24,
		decUtil: 28,
	}),
	nvmlEventData_t: struct(32, { device: 0, eventType: 8, eventData: 16, gpuInstanceId: 24, computeInstanceId: 28 }),
	nvmlGpuFabricInfo_v2_t: struct(36, { clusterUuid: 4, status: 20, cliqueId: 24, state: 28, healthMask: 32 }, 2),
	nvmlGpuFabricInfo_v3_t: struct(
		40,
		{ clusterUuid: 4, status: 20, cliqueId: 24, state: 28, healthMask: 32, healthSummary: 36 },
		3,
	),
	nvmlEccSramErrorStatus_v1_t: struct(
		104,
		{
			aggregateUncParity: 8,
			aggregateUncSecDed: 16,
			aggregateCor: 24,
			volatileUncParity: 32,
			volatileCor: 48,
			bThresholdExceeded: 96,
		},
		1,
	),
	nvmlTemperature_v1_t: struct(12, { sensorType: 4, temperature: 8 }, 1),
	nvmlMarginTemperature_v1_t: struct(8, { marginTemperature: 4 }, 1),
	nvmlGpuInstanceInfo_t: struct(24, { device: 0, id: 8, profileId: 12 }),
	nvmlGpuInstanceProfileInfo_v2_t: struct(
		152,
		{ id: 4, sliceCount: 12, instanceCount: 16, memorySizeMB: 48, name: 56 },
		2,
	),
	nvmlDeviceAttributes_t: struct(40, {
		multiprocessorCount: 0,
		gpuInstanceSliceCount: 24,
		computeInstanceSliceCount: 28,
		memorySizeMB: 32,
	}),
	nvmlGpmMetric_t: struct(40, { metricId: 0, nvmlReturn: 4, value: 8 }),
	/** The longest known: its array has 98 entries in CUDA 12.0, 210 in 12.9, 333 in 13.3; `numMetrics` says what is used. */
	nvmlGpmMetricsGet_t: struct(13_344, { version: 0, numMetrics: 4, sample1: 8, sample2: 16, metrics: 24 }),
	nvmlGpmSupport_t: struct(8, { version: 0, isSupportedDevice: 4 }),
	nvmlConfComputeSystemState_t: struct(12, { environment: 0, ccFeature: 4, devToolsMode: 8 }),
	nvmlPlatformInfo_v2_t: struct(
		44,
		{ chassisSerialNumber: 20, slotNumber: 36, trayIndex: 37, hostId: 38, peerType: 39, moduleId: 40 },
		2,
	),
	nvmlRowRemapperHistogramValues_t: struct(20, { max: 0, high: 4, partial: 8, low: 12, none: 16 }),
	nvmlRepairStatus_v1_t: struct(12, { bChannelRepairPending: 4, bTpcRepairPending: 8 }, 1),
	nvmlUnrepairableMemoryStatus_v1_t: struct(4, { bUnrepairableMemory: 0 }),
});

export type StructName = keyof typeof LAYOUT;

export function versionWord({ size, version }: { readonly size: number; readonly version?: number }): number {
	return version === undefined ? 0 : (size | (version << 24)) >>> 0;
}
