import { readFileSync } from 'node:fs';
import { hostname, userInfo } from 'node:os';
import { bootId } from '../../kit/process-identity.ts';

/** What this machine says about itself, read once at start. Everything but the boot id may be empty. */
export interface PlatformFacts {
	readonly bootId: string;
	readonly hostname: string;
	/** Chassis or board serial from DMI; root only on most machines. */
	readonly serial: string;
	readonly vendor: string;
	readonly product: string;
	/** Inside a container: a reboot would not be one. */
	readonly isContainer: boolean;
	/** This agent is PID 1: the kernel ends every process of its PID namespace with it (pid_namespaces(7)). */
	readonly isFirstProcess: boolean;
	readonly ownUser: string;
}

export function readPlatformFacts(root = '', pid = process.pid): PlatformFacts {
	const dmi = (name: string) => firstLine(`${root}/sys/class/dmi/id/${name}`);
	return Object.freeze({
		bootId: bootId(`${root}/proc`),
		hostname: hostname(),
		serial: meaningful(dmi('product_serial')) || meaningful(dmi('chassis_serial')),
		vendor: meaningful(dmi('sys_vendor')),
		product: meaningful(dmi('product_name')),
		isContainer: detectContainer(root),
		isFirstProcess: pid === 1,
		ownUser: userInfo().username,
	});
}

/** What ends with this agent and elsewhere outlives it; undefined where that is nothing. */
export function survivalWarning({ isFirstProcess }: Pick<PlatformFacts, 'isFirstProcess'>): string | undefined {
	if (!isFirstProcess) return undefined;
	return 'the agent is PID 1 of its container: tasks and terminals end with it, also when it only restarts or is upgraded; start it under an init (docker run --init), or process host and pty host in a container of their own';
}

/** systemd-detect-virt's own signs, without asking systemd: markers of runtimes, then PID 1's environment and cgroup. */
export function detectContainer(root = ''): boolean {
	if (readable(`${root}/.dockerenv`) || readable(`${root}/run/.containerenv`)) return true;
	if (/(^|\0)container=/.test(text(`${root}/proc/1/environ`))) return true;
	if (/docker|containerd|kubepods|libpod|lxc/.test(text(`${root}/proc/1/cgroup`))) return true;
	// The first process of a machine is a kernel's init; of a container, whatever it was told to run.
	const init = firstLine(`${root}/proc/1/comm`);
	return init !== '' && !INITS.has(init);
}

const INITS: ReadonlySet<string> = new Set(['systemd', 'init', 'runit', 's6-svscan', 'openrc-init', 'busybox']);

/** What vendors leave in a field that they don't fill. */
const PLACEHOLDER = /^(to be filled by o\.?e\.?m\.?|default string|not specified|none|0+|system serial number)$/i;

function meaningful(value: string): string {
	return PLACEHOLDER.test(value) ? '' : value;
}

function firstLine(path: string): string {
	return text(path).split('\n')[0]?.trim() ?? '';
}

function readable(path: string): boolean {
	try {
		readFileSync(path);
		return true;
	} catch {
		return false;
	}
}

function text(path: string): string {
	try {
		return readFileSync(path, 'utf8');
	} catch {
		return '';
	}
}
