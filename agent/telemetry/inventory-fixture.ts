import type { MachineFacts } from '../platform/machine-facts.ts';
import type { GpuIdentity } from '../probe/protocol.ts';

/** A host and its GPUs, as its firmware and the driver tell of them. */
export const MACHINE: MachineFacts = {
	board: {
		vendor: 'Supermicro',
		product: 'SYS-821GE',
		serial: 'S1',
		boardVendor: '-',
		boardProduct: 'X13',
		boardSerial: 'B1',
		biosVersion: '2.1',
		biosDate: '2026-01-01',
	},
	cpu: { model: 'Intel Xeon', sockets: 2, cores: 96, threads: 192 },
	memory: [
		{
			slot: 'DIMM_A1',
			bytes: 64 * 2 ** 30,
			kind: 'DDR5',
			speedMts: 5600,
			manufacturer: 'Samsung',
			partNumber: 'M3',
			serial: 'D1',
		},
	],
	os: 'Debian 12',
};

export function gpu(index: number): GpuIdentity {
	return {
		uuid: `GPU-${index}`,
		index,
		name: 'NVIDIA H100',
		serial: `S${index}`,
		boardPartNumber: '',
		pciBusId: `00000000:${index}B:00.0`,
		pciDeviceId: '233010de',
		vbios: '96',
		inforom: '',
		gspFirmware: '',
		minor: index,
		numaNode: 0,
		memoryBytes: 2 ** 36,
		architecture: 9,
		cudaCapability: [9, 0],
		nvlinks: 18,
		isMig: false,
		hasGpm: true,
		chassisSerial: '',
		slot: 0,
		tray: 0,
		moduleId: 0,
		fabricCluster: '',
		fabricClique: 0,
		slices: [],
	};
}
