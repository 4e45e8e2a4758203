/** View of /proc for those who end processes: sessions, groups, usage, open files. What ended meanwhile is absent. */
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from 'node:fs';

export interface ProcessStat {
	readonly pid: number;
	/** One letter, `Z` is a zombie: it has ended and nobody has waited for it. */
	readonly state: string;
	readonly groupId: number;
	readonly sessionId: number;
	/** Process group in the foreground of its terminal; -1 without one. */
	readonly foregroundGroupId: number;
	/** Own time plus that of children it waited for, in ticks. */
	readonly userTicks: number;
	readonly systemTicks: number;
	readonly startTimeTicks: number;
	readonly rssBytes: number;
}

/** USER_HZ is 100 on every Linux ABI that Node runs on, whatever CONFIG_HZ is. */
export const ticksPerSecond = 100;
const PAGE_BYTES = 4096;

const buffer = Buffer.allocUnsafe(4096);

/** One open, read, close: scans read a file a process, and readFileSync makes five system calls of it. */
function read(path: string): string | undefined {
	try {
		const fd = openSync(path, 'r');
		try {
			return buffer.toString('latin1', 0, readSync(fd, buffer, 0, buffer.length, 0));
		} finally {
			closeSync(fd);
		}
	} catch {
		return undefined;
	}
}

/** Ticks since boot: the clock of `startTimeTicks`. */
export function uptimeTicks(): number {
	return Math.floor(Number.parseFloat(readFileSync('/proc/uptime', 'latin1')) * ticksPerSecond);
}

export function readStat(pid: number): ProcessStat | undefined {
	const text = read(`/proc/${pid}/stat`);
	if (text === undefined) return undefined;
	// The command name is in parentheses and may hold spaces and parentheses itself: the last one closes it.
	const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
	const number = (field: number) => Number(fields[field - 3]);
	return {
		pid,
		state: fields[0] ?? '?',
		groupId: number(5),
		sessionId: number(6),
		foregroundGroupId: number(8),
		userTicks: number(14) + number(16),
		systemTicks: number(15) + number(17),
		startTimeTicks: number(22),
		rssBytes: number(24) * PAGE_BYTES,
	};
}

export function listProcesses(): readonly ProcessStat[] {
	const found: ProcessStat[] = [];
	for (const name of readdirSync('/proc')) {
		const pid = Number(name);
		if (!Number.isInteger(pid)) continue;
		const stat = readStat(pid);
		if (stat !== undefined) found.push(stat);
	}
	return found;
}

/** Whether any descriptor of `pid` is a file whose path `matches`; false when we may not look. */
export function holdsFile(pid: number, matches: (path: string) => boolean): boolean {
	try {
		for (const fd of readdirSync(`/proc/${pid}/fd`)) {
			try {
				if (matches(readlinkSync(`/proc/${pid}/fd/${fd}`))) return true;
			} catch {
				// Closed since the listing.
			}
		}
	} catch {
		// Ended, or another user's and we aren't root.
	}
	return false;
}

/** Sends `signal`; false when there is nobody to send it to. A negative pid is a process group. */
export function signal(pid: number, name: NodeJS.Signals): boolean {
	try {
		process.kill(pid, name);
		return true;
	} catch {
		return false;
	}
}
