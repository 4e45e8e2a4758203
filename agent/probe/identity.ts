import { queryFabric } from './fabric.ts';
import type { Gpu } from './gpu.ts';
import { LAYOUT } from './layout.ts';
import { allocate, readText } from './library.ts';
import type { GpuIdentity, SliceIdentity } from './protocol.ts';
import type { Reader } from './reader.ts';

/** What a GPU is: asked at boot, every hour, and when the list of GPUs changed. */
const pci = allocate('nvmlPciInfo_t');
const memory = allocate('nvmlMemory_v2_t');
const platform = allocate('nvmlPlatformInfo_v2_t');
const major = Buffer.alloc(4);
const minor = Buffer.alloc(4);

/** Throws GpuGone. */
export function readIdentity(reader: Reader, gpu: Gpu): GpuIdentity {
	const { handle } = gpu;
	const hasMemory = reader.call('nvmlDeviceGetMemoryInfo_v2', handle, memory);
	const hasCapability = reader.call('nvmlDeviceGetCudaComputeCapability', handle, major, minor);
	const numaNode = reader.u32('nvmlDeviceGetNumaNodeId', handle);
	const fabric = queryFabric(reader, handle);
	return {
		uuid: gpu.uuid,
		index: gpu.index,
		name: reader.text('nvmlDeviceGetName', handle, 96),
		serial: reader.text('nvmlDeviceGetSerial', handle, 30),
		boardPartNumber: reader.text('nvmlDeviceGetBoardPartNumber', handle, 80),
		...readPci(reader, handle),
		vbios: reader.text('nvmlDeviceGetVbiosVersion', handle, 32),
		inforom: reader.text('nvmlDeviceGetInforomImageVersion', handle, 16),
		gspFirmware: reader.text('nvmlDeviceGetGspFirmwareVersion', handle, 0),
		minor: known(reader.u32('nvmlDeviceGetMinorNumber', handle), gpu.index),
		numaNode: known(numaNode, -1),
		memoryBytes: hasMemory ? Number(memory.readBigUInt64LE(LAYOUT.nvmlMemory_v2_t.offsets.total)) : 0,
		architecture: known(reader.u32('nvmlDeviceGetArchitecture', handle), 0),
		cudaCapability: hasCapability ? [major.readInt32LE(0), minor.readInt32LE(0)] : [0, 0],
		nvlinks: gpu.nvlinks,
		isMig: reader.pair('nvmlDeviceGetMigMode', handle)[0] === 1,
		hasGpm: gpu.gpm !== undefined || gpu.slices.some(({ gpm }) => gpm !== undefined),
		...readPlatform(reader, handle),
		fabricCluster: fabric === undefined || /^0*$/.test(fabric.clusterUuid) ? '' : fabric.clusterUuid,
		fabricClique: fabric?.cliqueId ?? 0,
		slices: gpu.slices.map(describe),
	};
}

function describe(slice: Gpu['slices'][number]): SliceIdentity {
	const { uuid, gpuUuid, profile, gpuInstance, computeInstance, memoryBytes, multiprocessors, index } = slice;
	return { uuid, gpuUuid, profile, gpuInstance, computeInstance, memoryBytes, multiprocessors, index };
}

function readPci(reader: Reader, handle: number): { readonly pciBusId: string; readonly pciDeviceId: string } {
	if (!reader.call('nvmlDeviceGetPciInfo_v3', handle, pci)) return { pciBusId: '', pciDeviceId: '' };
	const { busId, pciDeviceId } = LAYOUT.nvmlPciInfo_t.offsets;
	return {
		pciBusId: readText(pci, busId, 32),
		pciDeviceId: pci.readUInt32LE(pciDeviceId).toString(16).padStart(8, '0'),
	};
}

function readPlatform(reader: Reader, handle: number) {
	if (!reader.call('nvmlDeviceGetPlatformInfo', handle, platform))
		return { chassisSerial: '', slot: 0, tray: 0, moduleId: 0 };
	const { chassisSerialNumber, slotNumber, trayIndex, moduleId } = LAYOUT.nvmlPlatformInfo_v2_t.offsets;
	return {
		chassisSerial: readText(platform, chassisSerialNumber, 16),
		slot: platform.readUInt8(slotNumber),
		tray: platform.readUInt8(trayIndex),
		moduleId: platform.readUInt8(moduleId),
	};
}

function known(value: number, otherwise: number): number {
	return Number.isNaN(value) ? otherwise : value;
}
