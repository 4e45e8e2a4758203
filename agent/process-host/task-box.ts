/**
 * The port that bounds and contains one task, with two implementations. `cgroup2`: a cgroup of the task's own, in which
 * it is born, so every descendant is in it whatever sessions it makes; the kernel bounds, accounts and kills it as a
 * whole. `session`: rlimits for each process, and the session that the leader began; a descendant that begins a session
 * of its own is then found only while it holds the task's pipes.
 */
import type { Confinement, DeviceMechanism } from '../platform/device-rules.ts';
import type { LaunchLimits } from '../tasks/process-host.ts';
import type { DevicePlace } from './device-groups.ts';

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
	/**
	 * Calls `spawn`, which must fork at once and await nothing, so that the child is born inside; nothing else of this
	 * process runs while it does. Rejects with what `spawn` throws.
	 */
	bear<T>(spawn: () => T): Promise<T>;
	/** SIGKILL to everybody inside; true when that is certain to reach every descendant. */
	kill(): boolean;
	usage(): BoxUsage | undefined;
	/** Gives the box back: at once, or false, and then as soon as nobody is inside any more. */
	remove(): boolean;
}

export interface BoxFactory {
	readonly limits: 'cgroup2' | 'rlimit';
	readonly containment: 'cgroup2' | 'session';
	/** What holds those who are confined to their devices. */
	readonly devices: DeviceMechanism;
	/** When a request has come, for `create`: the order of lists of devices is that in which they came. */
	turn(): number;
	/** Throws when the limits can't be set; DevicesUnheld when the devices can't be confined. */
	create(name: string, limits: LaunchLimits, confine?: Confinement, turn?: number): TaskBox;
	/** The devices of everybody who is confined, from now on. Throws when they couldn't be set for all. */
	allowDevices(allow: readonly string[]): void;
	/** At the end of the host, when no task is left. */
	close(): void | Promise<void>;
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

/** `step` calls what is to be done in one turn with this process where `place` leads. */
export function sessionBox(
	limits: LaunchLimits,
	place: DevicePlace | undefined,
	step: <T>(work: () => T) => Promise<T>,
): TaskBox {
	return {
		cgroup: undefined,
		rlimits: rlimitOptions(limits, false),
		unenforced: limits.cpuQuota === undefined ? [] : ['cpuQuota'],
		bear: async (spawn) => (place === undefined ? spawn() : await step(() => place.within(spawn))),
		kill: () => false,
		usage: () => undefined,
		remove: () => {
			place?.release();
			return true;
		},
	};
}

/** Where there is no cgroup at all. */
export const sessionBoxes: BoxFactory = {
	limits: 'rlimit',
	containment: 'session',
	devices: 'none',
	turn: () => 0,
	create(_name, limits, confine) {
		if (confine !== undefined) throw new Error('this host can hold no program to a list of devices');
		return sessionBox(limits, undefined, async (work) => work());
	},
	allowDevices: () => undefined,
	close: () => undefined,
};
