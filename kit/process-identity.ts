import { readFileSync } from 'node:fs';

/**
 * Which process a pid meant when it was written down. A pid alone names a stranger after reuse or reboot; with its
 * start time and the boot id it names one process for ever (proc(5): /proc/pid/stat field 22, in clock ticks).
 */
export interface ProcessIdentity {
	readonly pid: number;
	readonly startTimeTicks: number;
	readonly bootId: string;
}

const PID_MAX = 0x7fff_ffff;

/** Undefined when there is no such process, or it is a zombie: it has ended and only its exit code remains. */
export function processIdentity(pid: number, procRoot = '/proc'): ProcessIdentity | undefined {
	if (!Number.isSafeInteger(pid) || pid <= 0 || pid > PID_MAX) return undefined;
	const stat = readProc(`${procRoot}/${pid}/stat`);
	if (stat === undefined) return undefined;
	// The command name may itself contain spaces and parentheses, so fields are counted from the last one: state is field 3.
	const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
	const state = fields[0];
	const startTimeTicks = Number(fields[22 - 3]);
	if (state === 'Z' || state === 'X' || !Number.isSafeInteger(startTimeTicks)) return undefined;
	return { pid, startTimeTicks, bootId: bootId(procRoot) };
}

/** Whether the process that `identity` was taken from still runs. */
export function isSameProcess(identity: ProcessIdentity, procRoot = '/proc'): boolean {
	const now = processIdentity(identity.pid, procRoot);
	return now !== undefined && now.startTimeTicks === identity.startTimeTicks && now.bootId === identity.bootId;
}

/** The kernel's random id of this boot; throws when /proc is not mounted. */
export function bootId(procRoot = '/proc'): string {
	return readFileSync(`${procRoot}/sys/kernel/random/boot_id`, 'utf8').trim();
}

function readProc(path: string): string | undefined {
	try {
		return readFileSync(path, 'utf8');
	} catch (error) {
		// ESRCH: the process ended between open and read.
		const code = (error as NodeJS.ErrnoException).code;
		if (code === 'ENOENT' || code === 'ESRCH') return undefined;
		throw error;
	}
}
