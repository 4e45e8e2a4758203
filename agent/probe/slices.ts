import { SLICE_VALUES } from '../../proto/telemetry-schema/slice.ts';
import { Gpm } from './gpm.ts';
import { LAYOUT } from './layout.ts';
import { allocate, readHandle, readText } from './library.ts';
import { type Reader, throwWhenGone } from './reader.ts';
import { isHandleStale, NVML } from './returns.ts';
import { positionsOf, Row } from './row.ts';

/** MIG devices of a GPU: found when the list of GPUs is read, each with values of its own. */
export interface Slice {
	readonly uuid: string;
	readonly gpuUuid: string;
	readonly gpuHandle: number;
	readonly handle: number;
	readonly index: number;
	readonly gpuInstance: number;
	readonly computeInstance: number;
	/** "1g.10gb". */
	readonly profile: string;
	readonly memoryBytes: number;
	readonly multiprocessors: number;
	readonly gpm: Gpm | undefined;
}

const MIB = 1_048_576;
const PROFILES_MAX = 16;
const POSITIONS = positionsOf(SLICE_VALUES);
const handleRoom = Buffer.alloc(8);
const attributes = allocate('nvmlDeviceAttributes_t');
const instanceInfo = allocate('nvmlGpuInstanceInfo_t');
const memory = allocate('nvmlMemory_v2_t');
const bar1 = allocate('nvmlBAR1Memory_t');

export function findSlices(reader: Reader, gpu: { readonly handle: number; readonly uuid: string }): readonly Slice[] {
	const slices: Slice[] = [];
	const count = reader.u32('nvmlDeviceGetMaxMigDeviceCount', gpu.handle);
	for (let index = 0; index < count; index += 1) {
		// Numbers without a device are normal: instances come and go.
		if (!reader.call('nvmlDeviceGetMigDeviceHandleByIndex', gpu.handle, index, handleRoom)) continue;
		slices.push(describeSlice(reader, gpu, readHandle(handleRoom), index));
	}
	return slices;
}

function describeSlice(
	reader: Reader,
	gpu: { readonly handle: number; readonly uuid: string },
	handle: number,
	index: number,
): Slice {
	const uuid = reader.text('nvmlDeviceGetUUID', handle, 96);
	const gpuInstance = reader.u32('nvmlDeviceGetGpuInstanceId', handle);
	const computeInstance = reader.u32('nvmlDeviceGetComputeInstanceId', handle);
	const { multiprocessorCount, memorySizeMB } = LAYOUT.nvmlDeviceAttributes_t.offsets;
	const hasAttributes = reader.call('nvmlDeviceGetAttributes_v2', handle, attributes);
	return {
		uuid,
		gpuUuid: gpu.uuid,
		gpuHandle: gpu.handle,
		handle,
		index,
		gpuInstance,
		computeInstance,
		profile: findProfile(reader, gpu.handle, handle, gpuInstance),
		memoryBytes: hasAttributes ? Number(attributes.readBigUInt64LE(memorySizeMB)) * MIB : Number.NaN,
		multiprocessors: hasAttributes ? attributes.readUInt32LE(multiprocessorCount) : Number.NaN,
		gpm: Gpm.open(reader, gpu.handle),
	};
}

/** The device's own name ends in it ("NVIDIA H100 80GB HBM3 MIG 1g.10gb"); else the profile that its instance was made of. */
function findProfile(reader: Reader, gpuHandle: number, handle: number, gpuInstance: number): string {
	const named = /\bMIG (\S+)$/.exec(reader.text('nvmlDeviceGetName', handle, 96))?.[1];
	if (named !== undefined) return named;
	if (!reader.call('nvmlDeviceGetGpuInstanceById', gpuHandle, gpuInstance, handleRoom)) return '';
	if (!reader.call('nvmlGpuInstanceGetInfo', readHandle(handleRoom), instanceInfo)) return '';
	const wanted = instanceInfo.readUInt32LE(LAYOUT.nvmlGpuInstanceInfo_t.offsets.profileId);
	const { id, name } = LAYOUT.nvmlGpuInstanceProfileInfo_v2_t.offsets;
	for (let profile = 0; profile < PROFILES_MAX; profile += 1) {
		const info = allocate('nvmlGpuInstanceProfileInfo_v2_t');
		if (!reader.call('nvmlDeviceGetGpuInstanceProfileInfoV', gpuHandle, profile, info)) continue;
		if (info.readUInt32LE(id) === wanted) return readText(info, name, 96).replace(/^MIG /, '');
	}
	return '';
}

/** `isStale`: the slice is not there any more. Throws GpuGone. */
export function readSliceValues(reader: Reader, slice: Slice): { readonly row: Row; readonly isStale: boolean } {
	const row = new Row(POSITIONS);
	const { handle } = slice;
	const code = reader.nvml.call('nvmlDeviceGetMemoryInfo_v2', handle, memory);
	throwWhenGone(code);
	if (code === NVML.success)
		for (const [part, offset] of Object.entries(LAYOUT.nvmlMemory_v2_t.offsets))
			row.set(`memory.${part}`, Number(memory.readBigUInt64LE(offset)));
	if (reader.call('nvmlDeviceGetBAR1MemoryInfo', handle, bar1))
		row.set('bar1.used', Number(bar1.readBigUInt64LE(LAYOUT.nvmlBAR1Memory_t.offsets.bar1Used)));
	row.set('sm.count', slice.multiprocessors);
	row.set('processes.compute', reader.processes('nvmlDeviceGetComputeRunningProcesses_v3', handle));
	slice.gpm?.read(reader, slice.gpuHandle, slice.gpuInstance, (key, value) => row.set(key, value));
	return { row, isStale: isHandleStale(code) };
}
