import { existsSync, readlinkSync } from 'node:fs';
import { listFolder, readText } from './text-files.ts';

/**
 * Whether NVIDIA's fabric manager runs, without asking systemd by a program: a service that runs has a control group with
 * processes, and the manager writes a pid file. It matters where there is a fabric: an NVSwitch on the PCI bus, or a GPU
 * that says so. Where the unit isn't installed (GB200 runs it on the switch trays) or somebody masked it, nobody expects it.
 */
const SERVICE = 'nvidia-fabricmanager.service';
const UNIT_FOLDERS = ['etc/systemd/system', 'usr/lib/systemd/system', 'lib/systemd/system'];
/** What systemd itself believes first; a link to /dev/null there masks what the package brought. */
const MASKS = ['etc/systemd/system', 'run/systemd/system'];
const ENABLED = `etc/systemd/system/multi-user.target.wants/${SERVICE}`;
const PID_FILE = 'run/nvidia-fabricmanager/nv-fabricmanager.pid';
/** The kernel keeps 15 characters of a name. */
const COMMAND = 'nv-fabricmanage';
const NVIDIA = '0x10de';
/** PCI class: other bridge. */
const SWITCH = /^0x0680/;

/** down: it is here and should run, and doesn't. */
export const MANAGER = Object.freeze({ down: 0, runs: 1, notNeeded: 2 });

export interface FabricManagerRoots {
	readonly procRoot: string;
	readonly sysRoot: string;
	/** Of /etc, /usr and /run; empty: the host's own. */
	readonly hostRoot?: string;
}

export class FabricManager {
	readonly #roots: FabricManagerRoots;
	/** Looked up once: a switch is no part that comes and goes. */
	readonly #hasSwitch: boolean;

	constructor(roots: FabricManagerRoots) {
		this.#roots = roots;
		this.#hasSwitch = hasNvSwitch(roots.sysRoot);
	}

	/** One of MANAGER. NaN: not known yet. `isFabricSeen`: undefined until a GPU was asked. */
	read(isFabricSeen: boolean | undefined): number {
		if (this.#isRunning()) return MANAGER.runs;
		if (!this.#isInstalled()) return MANAGER.notNeeded;
		if (this.#hasSwitch) return MANAGER.down;
		// An image may bring it disabled for machines that have no switch.
		const { hostRoot = '' } = this.#roots;
		if (!existsSync(`${hostRoot}/${ENABLED}`)) return MANAGER.notNeeded;
		if (isFabricSeen === undefined) return Number.NaN;
		return isFabricSeen ? MANAGER.down : MANAGER.notNeeded;
	}

	#isInstalled(): boolean {
		const { hostRoot = '' } = this.#roots;
		if (MASKS.some((folder) => isMask(`${hostRoot}/${folder}/${SERVICE}`))) return false;
		return UNIT_FOLDERS.some((folder) => existsSync(`${hostRoot}/${folder}/${SERVICE}`));
	}

	#isRunning(): boolean {
		const { procRoot, sysRoot, hostRoot = '' } = this.#roots;
		for (const hierarchy of ['', 'systemd/', 'unified/'])
			if (readText(`${sysRoot}/fs/cgroup/${hierarchy}system.slice/${SERVICE}/cgroup.procs`)) return true;
		const pid = Number(readText(`${hostRoot}/${PID_FILE}`) ?? Number.NaN);
		return Number.isInteger(pid) && pid > 0 && readText(`${procRoot}/${pid}/comm`)?.startsWith(COMMAND) === true;
	}
}

function isMask(path: string): boolean {
	try {
		return readlinkSync(path) === '/dev/null';
	} catch {
		// A file, or nothing.
		return false;
	}
}

function hasNvSwitch(sysRoot: string): boolean {
	const devices = `${sysRoot}/bus/pci/devices`;
	return listFolder(devices).some(
		(address) =>
			readText(`${devices}/${address}/vendor`) === NVIDIA && SWITCH.test(readText(`${devices}/${address}/class`) ?? ''),
	);
}
