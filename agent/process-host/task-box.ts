/**
 * The port that bounds and contains one task, with two implementations. `cgroup2`: a cgroup of the task's own, in which
 * it is born, so every descendant is in it whatever sessions it makes; the kernel bounds, accounts and kills it as a
 * whole. `session`: rlimits for each process, and the session that the leader began; a descendant that begins a session
 * of its own is then found only while it holds the task's pipes.
 */
import type { LaunchLimits } from '../tasks/process-host.ts';

export interface BoxUsage {
	readonly cpuUserMs: number;
	readonly cpuSystemMs: number;
	readonly maxRssBytes: number | undefined;
}

export interface TaskBox {
	/** Absolute path, for the record: `reap` kills by it. */
	readonly cgroup: string | undefined;
	/** Options of prlimit(1). */
	readonly rlimits: readonly string[];
	readonly unenforced: readonly (keyof LaunchLimits)[];
	/** Calls `spawn`, which must fork in this turn, so that the child is born inside. Throws what `spawn` throws. */
	bear<T>(spawn: () => T): T;
	/** SIGKILL to everybody inside; true when that is certain to reach every descendant. */
	kill(): boolean;
	usage(): BoxUsage | undefined;
	/** Gives the box back; false while somebody is still inside. */
	remove(): boolean;
}

export interface BoxFactory {
	readonly limits: 'cgroup2' | 'rlimit';
	readonly containment: 'cgroup2' | 'session';
	/** Throws when the limits can't be set. */
	create(name: string, limits: LaunchLimits): TaskBox;
	/** At the end of the host, when no task is left. */
	close(): void;
}

function rlimit(name: string, value: number | undefined): readonly string[] {
	return value === undefined ? [] : [`--${name}=${value}`];
}

/** What rlimits alone can do, and the part of it that a cgroup doesn't do better. */
export function rlimitOptions(limits: LaunchLimits, cgroupLimits: boolean): readonly string[] {
	return [
		...rlimit('cpu', limits.cpuSeconds),
		...rlimit('as', limits.addressSpaceBytes),
		...rlimit('nofile', limits.openFiles),
		// RLIMIT_DATA counts private writable memory, not what is only reserved: nearer to memory than RLIMIT_AS.
		...(cgroupLimits ? [] : [...rlimit('nproc', limits.processes), ...rlimit('data', limits.memoryBytes)]),
	];
}

export const sessionBoxes: BoxFactory = {
	limits: 'rlimit',
	containment: 'session',
	create: (_name, limits) => ({
		cgroup: undefined,
		rlimits: rlimitOptions(limits, false),
		unenforced: limits.cpuQuota === undefined ? [] : ['cpuQuota'],
		bear: (spawn) => spawn(),
		kill: () => false,
		usage: () => undefined,
		remove: () => true,
	}),
	close: () => undefined,
};
