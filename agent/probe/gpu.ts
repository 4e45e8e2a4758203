import { FieldBatch } from './field-batch.ts';
import { FIELD } from './fields.ts';
import { Gpm } from './gpm.ts';
import { readHandle } from './library.ts';
import { GpuGone, type Reader } from './reader.ts';
import { DriverFault, NVML } from './returns.ts';
import { findSlices, type Slice } from './slices.ts';

/**
 * One GPU as the driver lists it now. Its UUID is its name; `index` is where it stands in the list, which moves when
 * another one falls off. Made when the list is read, used for every sample until the list is read again.
 */
export interface Gpu {
	readonly uuid: string;
	readonly index: number;
	readonly handle: number;
	/** How many links it has. */
	readonly nvlinks: number;
	/** 5 counts bytes and has other error counters. */
	readonly nvlinkGeneration: 4 | 5;
	/** Undefined: no GPM, or its MIG instances have it. */
	readonly gpm: Gpm | undefined;
	readonly slices: readonly Slice[];
}

export interface GpuList {
	readonly gpus: readonly Gpu[];
	/** GPUs that are listed but can't be asked, so that not even their UUID is known. */
	readonly silent: readonly { readonly index: number; readonly code: number }[];
}

/** NVML's number of NVLink 5.0 (Blackwell); 6 is NVLink 4.0. */
const NVLINK_5_VERSION = 7;
const LINKS_MAX = 36;

const handleRoom = Buffer.alloc(8);
const countRoom = Buffer.alloc(4);
const links = new FieldBatch([{ field: FIELD.nvlinkCount, key: 'links' }]);

/** Throws DriverFault: a driver that can't count has not lost its GPUs. */
export function countGpus(reader: Reader): number {
	const code = reader.nvml.call('nvmlDeviceGetCount_v2', countRoom);
	if (code !== NVML.success) throw new DriverFault(code);
	return countRoom.readUInt32LE(0);
}

/** Whether the driver gives a GPU and its name again. */
export function answers(reader: Reader, index: number): boolean {
	try {
		if (!reader.call('nvmlDeviceGetHandleByIndex_v2', index, handleRoom)) return false;
		return reader.text('nvmlDeviceGetUUID', readHandle(handleRoom), 96) !== '';
	} catch (error) {
		if (error instanceof GpuGone) return false;
		throw error;
	}
}

export function listGpus(reader: Reader, count: number, onGpu: (index: number) => void): GpuList {
	const gpus: Gpu[] = [];
	const silent: { index: number; code: number }[] = [];
	for (let index = 0; index < count; index += 1) {
		onGpu(index);
		try {
			const gpu = findGpu(reader, index);
			if (gpu === undefined) silent.push({ index, code: 999 });
			else gpus.push(gpu);
		} catch (error) {
			if (!(error instanceof GpuGone)) throw error;
			silent.push({ index, code: error.code });
		}
	}
	return { gpus, silent };
}

export function releaseGpus(reader: Reader, gpus: readonly Gpu[]): void {
	for (const gpu of gpus) {
		gpu.gpm?.free(reader);
		for (const slice of gpu.slices) slice.gpm?.free(reader);
	}
}

function findGpu(reader: Reader, index: number): Gpu | undefined {
	if (!reader.call('nvmlDeviceGetHandleByIndex_v2', index, handleRoom)) return undefined;
	const handle = readHandle(handleRoom);
	const uuid = reader.text('nvmlDeviceGetUUID', handle, 96);
	if (uuid === '') return undefined;
	const nvlinks = countLinks(reader, handle);
	const version = nvlinks === 0 ? 0 : reader.u32('nvmlDeviceGetNvLinkVersion', handle, 0);
	const isMig = reader.pair('nvmlDeviceGetMigMode', handle)[0] === 1;
	return {
		uuid,
		index,
		handle,
		nvlinks,
		nvlinkGeneration: version >= NVLINK_5_VERSION ? 5 : 4,
		gpm: isMig ? undefined : Gpm.open(reader, handle),
		slices: isMig ? findSlices(reader, { handle, uuid }) : [],
	};
}

/** The field is newer than the links: an older driver is asked for the state of each. */
function countLinks(reader: Reader, handle: number): number {
	let count = Number.NaN;
	links.read(reader.nvml, handle, (_, value) => {
		count = value;
	});
	if (!Number.isNaN(count)) return Math.min(count, LINKS_MAX);
	let found = 0;
	while (found < LINKS_MAX && !Number.isNaN(reader.u32('nvmlDeviceGetNvLinkState', handle, found))) found += 1;
	return found;
}
