import { readdirSync, readFileSync } from 'node:fs';

/**
 * Whether there is anything for a probe to do, from the kernel's own list of PCI devices: it needs no driver and can't
 * hang. A host without NVIDIA hardware costs nothing: no child is kept for it.
 */
export interface NvidiaHardware {
	/** PCI addresses of NVIDIA's display and 3D controllers. */
	readonly gpus: readonly string[];
	/** Version of the kernel module; empty: it isn't loaded. */
	readonly kernelDriver: string;
}

const NVIDIA = '0x10de';
/** PCI class 03: display controllers; 0302 is a GPU without a screen. */
const DISPLAY = /^0x03/;

export function findNvidiaHardware(root = ''): NvidiaHardware {
	const devices = `${root}/sys/bus/pci/devices`;
	const gpus = list(devices).filter(
		(address) => text(`${devices}/${address}/vendor`) === NVIDIA && DISPLAY.test(text(`${devices}/${address}/class`)),
	);
	const version =
		/Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)/.exec(text(`${root}/proc/driver/nvidia/version`))?.[1] ?? '';
	return { gpus, kernelDriver: version };
}

function list(folder: string): string[] {
	try {
		return readdirSync(folder);
	} catch {
		return [];
	}
}

function text(path: string): string {
	try {
		return readFileSync(path, 'latin1').trim();
	} catch {
		return '';
	}
}
