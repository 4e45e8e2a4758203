import { type Dirent, readdirSync, readFileSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import { DEVICE_RULES_MAX } from './device-rules.ts';

/**
 * The devices that a program of an assignment may open, from this host as it is now. Numbers that the kernel gives out
 * at boot are read: majors by the name of their driver in /proc/devices, minors from the device files. A device file of
 * NVIDIA's is believed only when its major is NVIDIA's, so that a file with a wrong number opens nothing else.
 */
export interface DeviceWishes {
	/** The GPUs of the node, with their MIG instances. */
	readonly gpus: boolean;
	/** Channels of IMEX: memory of GPUs across hosts. */
	readonly imex: boolean;
	/** Verbs, not the ports' management (umad, issm), which reaches the whole fabric. */
	readonly infiniband: boolean;
	readonly fuse: boolean;
	/** Further device files; `*` in the last name. */
	readonly allow: readonly string[];
}

export interface DeviceFolders {
	readonly dev: string;
	readonly proc: string;
}

const HOST: DeviceFolders = { dev: '/dev', proc: '/proc' };

/** null, zero, full, random, urandom; tty; ptmx. Numbers that never change (Documentation/admin-guide/devices.txt). */
const EVERYBODYS = ['c 1:3 rw', 'c 1:5 rw', 'c 1:7 rw', 'c 1:8 rw', 'c 1:9 rw', 'c 5:0 rw', 'c 5:2 rw'];

/** Never, whatever is allowed: what is written there appears on the machine's console. */
export const NEVER = 'c 5:1';

/** One process's view of the GPU, of unified memory, of its counters. Not -modeset (displays), not -nvswitch (fabric). */
const GPU_FILE = /^nvidia(\d+|ctl|-uvm|-uvm-tools)$/;
const VERBS_FILE = /^(uverbs\d+|rdma_cm)$/;

/** In the form of device-rules.ts, without doubles. Throws when there are more than can be put in force. */
export function allowedDevices(wishes: DeviceWishes, folders: DeviceFolders = HOST): readonly string[] {
	const majors = characterMajors(folders.proc);
	const rules = new Set(EVERYBODYS);
	for (const major of majors.get('pts') ?? []) rules.add(`c ${major}:* rw`);
	const add = (found: readonly string[]) => {
		for (const rule of found) rules.add(rule);
	};
	if (wishes.gpus) {
		const isNvidia = (major: number) =>
			[...majors].some(([name, numbers]) => name.startsWith('nvidia') && numbers.includes(major));
		add(filesIn(folders.dev, GPU_FILE, (stat) => stat.isCharacterDevice() && isNvidia(majorOf(stat.rdev))));
		add(migCapabilities(folders.proc, majors.get('nvidia-caps')?.[0]));
	}
	if (wishes.imex) for (const major of majors.get('nvidia-caps-imex-channels') ?? []) rules.add(`c ${major}:* rw`);
	if (wishes.infiniband) add(filesIn(join(folders.dev, 'infiniband'), VERBS_FILE));
	if (wishes.fuse) add(filesIn(folders.dev, /^fuse$/));
	for (const pattern of wishes.allow) add(listed(pattern));
	for (const rule of rules) if (rule.startsWith(`${NEVER} `)) rules.delete(rule);
	if (rules.size > DEVICE_RULES_MAX)
		throw new Error(`${rules.size} devices are allowed, which is more than ${DEVICE_RULES_MAX}; list fewer`);
	return [...rules];
}

/** The first part of /proc/devices: majors by name; one driver may have several. */
function characterMajors(proc: string): ReadonlyMap<string, readonly number[]> {
	const majors = new Map<string, readonly number[]>();
	const [characters = ''] = read(join(proc, 'devices')).split('Block devices:');
	for (const [, major, name = ''] of characters.matchAll(/^\s*(\d+) (\S+)$/gm))
		majors.set(name, [...(majors.get(name) ?? []), Number(major)]);
	return majors;
}

/**
 * Of each MIG instance of each GPU: the device file that a process opens to use it. The driver lists its minor; those of
 * `mig/config` and `mig/monitor`, which change and watch everybody's instances, are left out.
 */
function migCapabilities(proc: string, major: number | undefined): readonly string[] {
	if (major === undefined) return [];
	const root = join(proc, 'driver/nvidia/capabilities');
	const found: string[] = [];
	for (const gpu of names(root, /^gpu\d+$/))
		for (const instance of names(join(root, gpu, 'mig'), /^gi\d+$/)) {
			const folder = join(root, gpu, 'mig', instance);
			const parts = ['', ...names(folder, /^ci\d+$/)];
			for (const part of parts) {
				const minor = /^DeviceFileMinor: (\d+)$/m.exec(read(join(folder, part, 'access')))?.[1];
				if (minor !== undefined) found.push(`c ${major}:${minor} rw`);
			}
		}
	return found;
}

function listed(pattern: string): readonly string[] {
	const slash = pattern.lastIndexOf('/');
	const name = pattern.slice(slash + 1).replace(/[\\^$.+?()[\]{}|]/g, '\\$&');
	return filesIn(pattern.slice(0, slash), new RegExp(`^${name.replaceAll('*', '.*')}$`));
}

/** Links are followed: /dev/disk/by-id names disks so. */
function filesIn(folder: string, name: RegExp, isWanted: (stat: Stats) => boolean = () => true): readonly string[] {
	return names(folder, name).flatMap((each) => {
		const stat = statSync(join(folder, each), { throwIfNoEntry: false });
		if (stat === undefined || !isWanted(stat)) return [];
		const type = stat.isCharacterDevice() ? 'c' : stat.isBlockDevice() ? 'b' : undefined;
		return type === undefined ? [] : [`${type} ${majorOf(stat.rdev)}:${minorOf(stat.rdev)} rw`];
	});
}

function names(folder: string, pattern: RegExp): readonly string[] {
	let entries: readonly Dirent[];
	try {
		entries = readdirSync(folder, { withFileTypes: true });
	} catch {
		return [];
	}
	return entries.map(({ name }) => name).filter((name) => pattern.test(name));
}

function read(path: string): string {
	try {
		return readFileSync(path, 'latin1');
	} catch {
		return '';
	}
}

/** As makedev(3) of glibc packs it; numbers of the kernel have no more than 12 and 20 bits. */
function majorOf(rdev: number): number {
	return Math.floor(rdev / 256) & 0xfff;
}

function minorOf(rdev: number): number {
	return (rdev & 0xff) | (Math.floor(rdev / 4096) & 0xf_ff00);
}
