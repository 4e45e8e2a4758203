import { readFileSync, readlinkSync } from 'node:fs';
import { release } from 'node:os';
import { basename } from 'node:path';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
	InventoryBoardSchema,
	InventoryDiskSchema,
	InventoryNicSchema,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import { listDisks } from './disks.ts';
import { listFolder, readNumber, readText } from './text-files.ts';

/** Parts of the machine that the kernel shows by itself: disks, network devices, the BMC. */
const SECTOR_BYTES = 512;
const NICS_MAX = 256;
const VPD_BYTES_MAX = 4096;

type DiskInit = MessageInitShape<typeof InventoryDiskSchema>;
type NicInit = MessageInitShape<typeof InventoryNicSchema>;

export function readDisks(sysRoot: string): DiskInit[] {
	return listDisks(sysRoot).map(({ id, device }) => {
		const folder = `${sysRoot}/block/${device}`;
		const read = (name: string) => readText(`${folder}/${name}`) ?? '';
		const sectors = readNumber(`${folder}/size`);
		return {
			id,
			device,
			model: read('device/model').slice(0, 128),
			serial: read('device/serial').slice(0, 96),
			wwid: (read('wwid') || read('device/wwid')).slice(0, 128),
			firmware: (read('device/firmware_rev') || read('device/rev')).slice(0, 64),
			bytes: BigInt(Number.isNaN(sectors) ? 0 : sectors * SECTOR_BYTES),
			rotational: read('queue/rotational') === '1',
			transport: device.startsWith('nvme') ? 'nvme' : device.startsWith('vd') ? 'virtio' : '',
		};
	});
}

/** Interfaces with a device below them (not bridges, bonds, tunnels), and InfiniBand devices. */
export function readNics(sysRoot: string): NicInit[] {
	const nics: NicInit[] = [];
	for (const device of listFolder(`${sysRoot}/class/net`)) {
		const folder = `${sysRoot}/class/net/${device}`;
		const address = linkName(`${folder}/device`);
		if (address === '') continue;
		nics.push({ ...pciDevice(`${folder}/device`, address), device, mac: readText(`${folder}/address`) ?? '' });
	}
	for (const device of listFolder(`${sysRoot}/class/infiniband`)) {
		const folder = `${sysRoot}/class/infiniband/${device}`;
		nics.push({
			...pciDevice(`${folder}/device`, linkName(`${folder}/device`)),
			device,
			guid: readText(`${folder}/node_guid`) ?? '',
			boardId: readText(`${folder}/board_id`) ?? '',
			firmware: readText(`${folder}/fw_ver`) ?? '',
			ibPorts: listFolder(`${folder}/ports`).length,
		});
	}
	return nics.slice(0, NICS_MAX);
}

export function readBmc(sysRoot: string): MessageInitShape<typeof InventoryBoardSchema> {
	const folder = `${sysRoot}/devices/platform/ipmi_bmc.0`;
	return { bmcFirmware: readText(`${folder}/firmware_revision`) ?? '', bmcGuid: readText(`${folder}/guid`) ?? '' };
}

export function readKernel(): string {
	return release();
}

/** The first processor's: all of a machine run the same. */
export function readMicrocode(procRoot: string): string {
	return /^microcode\s*:\s*(\S+)/m.exec(readText(`${procRoot}/cpuinfo`) ?? '')?.[1] ?? '';
}

function pciDevice(folder: string, pciAddress: string): NicInit {
	const numa = readNumber(`${folder}/numa_node`);
	return {
		pciAddress: pciAddress.slice(0, 32),
		driver: linkName(`${folder}/driver`).slice(0, 64),
		numaNode: Number.isNaN(numa) ? -1 : numa,
		vendor: (readText(`${folder}/vendor`) ?? '').slice(0, 16),
		product: (readText(`${folder}/device`) ?? '').slice(0, 16),
		serial: readVpdSerial(`${folder}/vpd`),
	};
}

function linkName(path: string): string {
	try {
		return basename(readlinkSync(path));
	} catch {
		return '';
	}
}

/** Root only on most kernels. */
function readVpdSerial(path: string): string {
	try {
		return parseVpdSerial(readFileSync(path).subarray(0, VPD_BYTES_MAX));
	} catch {
		return '';
	}
}

/** PCI vital product data (PCI 3.0, appendix I): tagged resources; the serial is keyword SN of the read-only one. */
export function parseVpdSerial(data: Buffer): string {
	const READ_ONLY = 0x90;
	const END = 0x78;
	for (let at = 0; at + 3 <= data.length; ) {
		const tag = data.readUInt8(at);
		if (tag === END) break;
		// Small resources have their length in the tag.
		if ((tag & 0x80) === 0) {
			at += 1 + (tag & 7);
			continue;
		}
		const length = data.readUInt16LE(at + 1);
		if (tag === READ_ONLY) return keyword(data.subarray(at + 3, at + 3 + length), 'SN');
		at += 3 + length;
	}
	return '';
}

function keyword(fields: Buffer, wanted: string): string {
	for (let at = 0; at + 3 <= fields.length; ) {
		const length = fields.readUInt8(at + 2);
		if (fields.toString('latin1', at, at + 2) === wanted)
			return fields
				.toString('latin1', at + 3, at + 3 + length)
				.replace(/[^ -~]/g, '')
				.trim()
				.slice(0, 96);
		at += 3 + length;
	}
	return '';
}
