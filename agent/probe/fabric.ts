import { LAYOUT } from './layout.ts';
import { allocate } from './library.ts';
import { type Reader, throwWhenGone } from './reader.ts';
import { NVML } from './returns.ts';

/** NVLink fabric of a GPU (NVSwitch systems). Driver 545 knows version 2 of the structure, newer ones version 3. */
const v3 = allocate('nvmlGpuFabricInfo_v3_t');
const v2 = allocate('nvmlGpuFabricInfo_v2_t');

export interface FabricInfo {
	readonly clusterUuid: string;
	readonly cliqueId: number;
	readonly state: number;
	readonly status: number;
	readonly healthMask: number;
	/** Absent (NaN) in version 2. */
	readonly healthSummary: number;
}

/** Two bits each: 0 not supported, 1 yes, 2 no. */
const FAULTS: readonly (readonly [string, number])[] = [
	['fabric.degraded_bandwidth', 0],
	['fabric.route_recovery', 2],
	['fabric.route_unhealthy', 4],
	['fabric.access_timeout', 6],
	['fabric.partition', 12],
];
const MISCONFIGURATION_SHIFT = 8;
const COMPLETED = 3;

export function queryFabric(reader: Reader, handle: number): FabricInfo | undefined {
	const { nvml } = reader;
	const { offsets } = LAYOUT.nvmlGpuFabricInfo_v3_t;
	let buffer = v3;
	let code = nvml.call('nvmlDeviceGetGpuFabricInfoV', handle, v3);
	if (code === NVML.argumentVersionMismatch) {
		buffer = v2;
		code = nvml.call('nvmlDeviceGetGpuFabricInfoV', handle, v2);
	}
	throwWhenGone(code);
	if (code !== NVML.success) return undefined;
	return {
		clusterUuid: buffer.toString('hex', offsets.clusterUuid, offsets.clusterUuid + 16),
		cliqueId: buffer.readUInt32LE(offsets.cliqueId),
		state: buffer.readUInt8(offsets.state),
		status: buffer.readUInt32LE(offsets.status),
		healthMask: buffer.readUInt32LE(offsets.healthMask),
		healthSummary: buffer === v3 ? buffer.readUInt8(offsets.healthSummary) : Number.NaN,
	};
}

export function readFabric(reader: Reader, handle: number, set: (key: string, value: number) => void): void {
	const info = queryFabric(reader, handle);
	if (info === undefined) return;
	set('fabric.state', info.state);
	// Of a registration that isn't completed the status says nothing.
	if (info.state === COMPLETED) set('fabric.status', info.status);
	set('fabric.health', info.healthSummary);
	for (const [key, shift] of FAULTS) set(key, (info.healthMask >>> shift) & 3);
	set('fabric.misconfiguration', (info.healthMask >>> MISCONFIGURATION_SHIFT) & 15);
}
