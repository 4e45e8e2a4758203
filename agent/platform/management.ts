import { readdirSync, readFileSync, realpathSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';
import { dirname, join } from 'node:path';

/**
 * Where this host's own management controller (BMC) is reached from the host: addresses and ranges, by what the firmware
 * says in SMBIOS structures of type 42 (DMTF DSP0134 7.43; Redfish over IP and the kinds of device: DSP0270). The table
 * is the firmware's, which we don't trust to be well formed: every read is within bounds, and what makes no sense is
 * left out. A controller that the firmware doesn't name isn't known; the policy's `forward.never` is for its network.
 */
export interface HostInterface {
	/** Of the controller's service and of its end of the link. */
	readonly ranges: readonly string[];
	/** Of the network device on this side, when it is told. */
	readonly mac: string | undefined;
	/** `vendor:product`, in hex, when it is a USB device. */
	readonly usb: string | undefined;
}

const TABLE_PATH = '/sys/firmware/dmi/tables/DMI';
/** Real tables have some 10 kB and 100 structures. */
const TABLE_BYTES_MAX = 1 << 20;
const STRUCTURES_MAX = 8192;

const HOST_INTERFACE = 42;
const END_OF_TABLE = 127;
const HEADER_BYTES = 4;
const NETWORK_INTERFACE = 0x40;
const REDFISH_OVER_IP = 4;
/** Up to the mask of the service's address. */
const REDFISH_BYTES_MIN = 84;
const HOST_ADDRESS_AT = 17;
const SERVICE_ADDRESS_AT = 51;

/** Reads nothing that changes while a machine runs, but for the addresses of its interfaces. */
export function managementRanges(): readonly string[] {
	let table: Buffer;
	try {
		table = readFileSync(TABLE_PATH);
	} catch {
		// No firmware tables (a container, another architecture) or not ours to read.
		return [];
	}
	const found = hostInterfaces(table);
	const ranges = new Set(found.flatMap((each) => each.ranges));
	for (const range of linkRanges(found)) ranges.add(range);
	return [...ranges];
}

export function hostInterfaces(table: Buffer): readonly HostInterface[] {
	const found: HostInterface[] = [];
	for (const structure of structures(table.subarray(0, TABLE_BYTES_MAX))) {
		const one = structure[0] === HOST_INTERFACE ? hostInterface(structure) : undefined;
		if (one !== undefined) found.push(one);
	}
	return found;
}

/** The formatted part of each; after it come strings, up to two NULs. */
function* structures(table: Buffer): Generator<Buffer, void, void> {
	let at = 0;
	for (let count = 0; count < STRUCTURES_MAX && at + HEADER_BYTES <= table.length; count += 1) {
		const length = table.readUInt8(at + 1);
		if (length < HEADER_BYTES || at + length > table.length) return;
		const structure = table.subarray(at, at + length);
		yield structure;
		if (structure[0] === END_OF_TABLE) return;
		const end = table.indexOf('\0\0', at + length, 'latin1');
		if (end === -1) return;
		at = end + 2;
	}
}

function hostInterface(structure: Buffer): HostInterface | undefined {
	// Type of the interface, length of what describes it, the description, number of protocols, the protocols.
	if (structure.length < HEADER_BYTES + 2 || structure[4] !== NETWORK_INTERFACE) return undefined;
	const deviceEnd = 6 + structure.readUInt8(5);
	if (deviceEnd >= structure.length) return undefined;
	const device = structure.subarray(6, deviceEnd);
	const protocols = structure.readUInt8(deviceEnd);
	const ranges: string[] = [];
	let at = deviceEnd + 1;
	for (let index = 0; index < protocols && at + 2 <= structure.length; index += 1) {
		const end = at + 2 + structure.readUInt8(at + 1);
		if (end > structure.length) break;
		if (structure[at] === REDFISH_OVER_IP) ranges.push(...redfishRanges(structure.subarray(at + 2, end)));
		at = end;
	}
	return { ranges, ...deviceOf(device) };
}

function redfishRanges(data: Buffer): readonly string[] {
	if (data.length < REDFISH_BYTES_MIN) return [];
	const [host, service] = [addressAt(data, HOST_ADDRESS_AT), addressAt(data, SERVICE_ADDRESS_AT)];
	// The whole link: whoever is on it is the controller, or this host.
	return [service?.address, service?.range, host?.range].filter((range) => range !== undefined);
}

/** Format, 16 bytes of address, 16 of mask. `range` only of a mask that leaves a network of sensible size. */
function addressAt(
	data: Buffer,
	at: number,
): { readonly address: string; readonly range: string | undefined } | undefined {
	const format = data.readUInt8(at);
	const bytes = format === 1 ? 4 : format === 2 ? 16 : 0;
	const address = data.subarray(at + 1, at + 1 + bytes);
	if (bytes === 0 || address.every((byte) => byte === 0)) return undefined;
	const mask = data.subarray(at + 17, at + 17 + bytes);
	const bits = prefixOf(mask);
	const isSensible = bits !== undefined && bits >= (bytes === 4 ? 8 : 32);
	const text = textOf(address);
	if (!isSensible) return { address: text, range: undefined };
	const network = Buffer.from(address.map((byte, index) => byte & (mask[index] ?? 0)));
	return { address: text, range: `${textOf(network)}/${bits}` };
}

/** Undefined for what is no mask: ones, then zeros. */
function prefixOf(mask: Buffer): number | undefined {
	const bits = Array.from(mask, (byte) => byte.toString(2).padStart(8, '0')).join('');
	return /^1*0*$/.test(bits) ? bits.lastIndexOf('1') + 1 : undefined;
}

function textOf(address: Buffer): string {
	if (address.length === 4) return address.join('.');
	return Array.from({ length: 8 }, (_, index) => address.readUInt16BE(index * 2).toString(16)).join(':');
}

/** Kinds of device: 2 USB, 4 USB and 5 PCI with the MAC address. */
function deviceOf(device: Buffer): Pick<HostInterface, 'mac' | 'usb'> {
	const [kind] = device;
	const macAt = (at: number) => {
		const mac = device.subarray(at, at + 6);
		const isThere = mac.length === 6 && mac.some((byte) => byte !== 0);
		return isThere ? Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':') : undefined;
	};
	const usbAt = (at: number) => {
		if (device.length < at + 4) return undefined;
		const number = (where: number) => device.readUInt16LE(where).toString(16).padStart(4, '0');
		return `${number(at)}:${number(at + 2)}`;
	};
	if (kind === 2) return { mac: undefined, usb: usbAt(1) };
	if (kind === 4) return { mac: macAt(7), usb: usbAt(2) };
	if (kind === 5) return { mac: macAt(10), usb: undefined };
	return { mac: undefined, usb: undefined };
}

/** Networks that the device of a host interface is on now: by its MAC address, or by what kind of USB device it is. */
function linkRanges(found: readonly HostInterface[]): readonly string[] {
	const isTheirs = (name: string, mac: string) =>
		found.some((each) => each.mac === mac || (each.usb !== undefined && each.usb === usbOf(name)));
	return Object.entries(networkInterfaces()).flatMap(([name, addresses = []]) =>
		addresses
			.filter(({ mac, cidr, internal }) => !internal && cidr !== null && isTheirs(name, mac))
			.map(({ cidr }) => networkOf(cidr ?? '')),
	);
}

/** `10.1.2.3/24` as a range: what asks for membership looks at the bits of the prefix only. */
function networkOf(cidr: string): string {
	const [address = '', bits = ''] = cidr.split('/');
	return isIPv6(address) ? `${address.split('%')[0]}/${bits}` : cidr;
}

function usbOf(name: string): string | undefined {
	try {
		// The device of the interface is a function of a USB device, whose folder has the numbers.
		const device = dirname(realpathSync(join('/sys/class/net', name, 'device')));
		if (!readdirSync(device).includes('idVendor')) return undefined;
		const read = (file: string) => readFileSync(join(device, file), 'latin1').trim();
		return `${read('idVendor')}:${read('idProduct')}`;
	} catch {
		return undefined;
	}
}
