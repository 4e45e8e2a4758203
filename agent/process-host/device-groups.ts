/**
 * Groups of programs that may open the same devices: one an assignment. A group is a cgroup in which the kernel lets
 * nobody open a device that no rule names, not even a device file that its mode bits would open; whoever is born inside
 * stays inside. Its rules are in force before the first program of it is forked, and go with the cgroup, not with this
 * process. Two kinds of cgroup can do it: v2 with an eBPF program (device-bpf.ts), v1 with its `devices` controller
 * (device-cgroup1.ts). A trial at the start says which one does, by being refused a device.
 */
import { closeSync, openSync } from 'node:fs';
import type { Clock, Timer } from '../../kit/clock.ts';
import { messageOf } from '../../kit/error.ts';
import {
	type Confinement,
	confinementFault,
	type DeviceMechanism,
	type DeviceRule,
	parseDeviceRule,
} from '../platform/device-rules.ts';

/** One cgroup. */
export interface DeviceCgroup {
	/** Where the cgroups of its programs are made; undefined: they are made wherever they would be. */
	readonly folder: string | undefined;
	/** Puts exactly these rules in force. Throws when that isn't certain; then some of them may be. */
	apply(rules: readonly DeviceRule[]): void;
	/** Whether what was applied last is in force by the kernel's word. */
	isInForce(): boolean;
	/** False once somebody else has removed it, which nobody can while a program is inside. */
	isThere(): boolean;
	/** Calls `work` with this process inside, in one turn, where `folder` doesn't lead there by itself. */
	within<T>(work: () => T): T;
	/** True when it is gone; false while somebody is inside, or cgroups of programs are there. Not called again once true. */
	remove(): boolean;
	/** As `remove`, with what is left of programs that are gone. */
	sweep(): boolean;
}

export interface DeviceKind {
	readonly mechanism: Exclude<DeviceMechanism, 'none'>;
	/** Makes it, or takes over what is left there. */
	open(group: string): DeviceCgroup;
}

/** Where one program goes. */
export interface DevicePlace {
	readonly folder: string | undefined;
	within<T>(work: () => T): T;
	/** The program and its descendants are gone, or there was none. */
	release(): void;
}

/** What may be opened, and when this host was told of it: lists come in this order, and are put in force in any. */
interface List {
	readonly allow: readonly string[];
	readonly turn: number;
}

interface Group {
	readonly cgroup: DeviceCgroup;
	/** The rules in force; empty: none for certain. */
	key: string;
	/** The newest that was to be put in force. */
	list: List | undefined;
	places: number;
	takenAtMs: number;
	idle: Timer | undefined;
	isGone: boolean;
}

/** The list can't be put in force; the message says why. Nothing may be started. */
export class DevicesUnheld extends Error {}

/** A group without programs stays for this long: tasks in a row make it once. */
const IDLE_MS = 60_000;
/** A node has one assignment at a time, and what is left of former ones ends soon. */
const GROUPS_MAX = 64;

export class DeviceGroups {
	readonly #clock: Clock;
	readonly #kind: DeviceKind | undefined;
	readonly #groups = new Map<string, Group>();
	#turns = 0;
	/** What all groups were told last. */
	#told: List | undefined;

	/** `kind` undefined: this host can't. */
	constructor(clock: Clock, kind: DeviceKind | undefined) {
		this.#clock = clock;
		this.#kind = kind;
	}

	get mechanism(): DeviceMechanism {
		return this.#kind?.mechanism ?? 'none';
	}

	/** Of a list that has come just now. */
	turn(): number {
		this.#turns += 1;
		return this.#turns;
	}

	/**
	 * `turn`: when the list came; much may have happened since. Throws DevicesUnheld when the rules can't be put in force;
	 * then nothing may be started.
	 */
	take({ group: name, allow }: Confinement, turn = this.turn()): DevicePlace {
		let group: Group;
		try {
			group = this.#living(name) ?? this.#open(name);
		} catch (error) {
			throw new DevicesUnheld(messageOf(error));
		}
		try {
			applyNewest(group, { allow, turn }, this.#told);
		} catch (error) {
			if (group.places === 0 && !this.#remove(name, group)) this.#idle(name, group);
			throw new DevicesUnheld(messageOf(error));
		}
		group.places += 1;
		group.takenAtMs = this.#clock.monotonic();
		group.idle?.cancel();
		group.idle = undefined;
		let isReleased = false;
		return {
			folder: group.cgroup.folder,
			within: (work) => group.cgroup.within(work),
			release: () => {
				if (isReleased) return;
				isReleased = true;
				group.places -= 1;
				if (group.places === 0 && !group.isGone) this.#idle(name, group);
			},
		};
	}

	/** The devices have changed: every group that is there gets these rules. Throws when one of them couldn't. */
	update(allow: readonly string[], turn = this.turn()): void {
		const fault = confinementFault({ group: 'all', allow });
		if (fault !== undefined) throw new Error(fault);
		this.#told = newest({ allow, turn }, this.#told);
		const failures: unknown[] = [];
		for (const name of [...this.#groups.keys()]) {
			try {
				const group = this.#living(name);
				if (group === undefined) continue;
				if (!group.cgroup.isInForce()) group.key = '';
				applyNewest(group, this.#told);
			} catch (error) {
				failures.push(error);
			}
		}
		if (failures.length > 0) throw failures[0];
	}

	/** At the end of the host, when no program is left; true when no group is. */
	close(): boolean {
		for (const [name, group] of this.#groups) this.#remove(name, group);
		return this.#groups.size === 0;
	}

	/** Undefined where there is none, or it was taken from under us: whoever comes next makes it anew. */
	#living(name: string): Group | undefined {
		const group = this.#groups.get(name);
		if (group === undefined || group.cgroup.isThere()) return group;
		if (!this.#remove(name, group)) throw new Error(`somebody else has put a cgroup in the place of that of ${name}`);
		return undefined;
	}

	#open(name: string): Group {
		if (this.#kind === undefined) throw new Error('this host can hold no program to a list of devices');
		if (this.#groups.size >= GROUPS_MAX) this.#evict();
		if (this.#groups.size >= GROUPS_MAX)
			throw new Error(`programs of ${GROUPS_MAX} assignments run on this host, its limit; end those of former ones`);
		const cgroup = this.#kind.open(name);
		const takenAtMs = this.#clock.monotonic();
		const group = { cgroup, key: '', list: undefined, places: 0, takenAtMs, idle: undefined, isGone: false };
		this.#groups.set(name, group);
		return group;
	}

	/** Groups in which nobody is, whatever became of their places. Not those whose program may be about to be forked. */
	#evict(): void {
		const beforeMs = this.#clock.monotonic() - IDLE_MS;
		for (const [name, group] of this.#groups)
			if ((group.places === 0 || group.takenAtMs < beforeMs) && group.cgroup.sweep()) this.#gone(name, group);
	}

	#idle(name: string, group: Group): void {
		group.idle?.cancel();
		group.idle = this.#clock.setTimer(() => {
			group.idle = undefined;
			// Whoever left its task's session may still be inside, and stays held to the rules.
			if (group.places === 0 && !this.#remove(name, group)) this.#idle(name, group);
		}, IDLE_MS);
	}

	#remove(name: string, group: Group): boolean {
		if (group.isGone) return true;
		if (!group.cgroup.remove()) return false;
		this.#gone(name, group);
		return true;
	}

	#gone(name: string, group: Group): void {
		group.idle?.cancel();
		group.isGone = true;
		this.#groups.delete(name);
	}
}

function newest(list: List, ...others: readonly (List | undefined)[]): List {
	return others.reduce<List>((best, other) => (other !== undefined && other.turn > best.turn ? other : best), list);
}

/** A start that took its time must not bring back devices that were taken away meanwhile. */
function applyNewest(group: Group, list: List, told?: List): void {
	group.list = newest(list, told, group.list);
	apply(group, group.list.allow);
}

function apply(group: Group, allow: readonly string[]): void {
	const key = allow.join(';');
	if (group.key === key) return;
	const rules = allow.map((text) => {
		const rule = parseDeviceRule(text);
		if (rule === undefined) throw new Error(`${text} is no rule for devices`);
		return rule;
	});
	// Until the kernel has said that it has these, it has none that we could name.
	group.key = '';
	group.cgroup.apply(rules);
	if (!group.cgroup.isInForce()) throw new Error('the kernel took the rules for devices, and does not have them');
	group.key = key;
}

/** For the trial: a device that everybody may open anywhere, and another one. */
export const TRIAL_RULES: readonly DeviceRule[] = [{ type: 'c', major: 1, minor: 3, access: 'rw' }];

/** Called inside a group with `TRIAL_RULES`; throws unless the kernel opens the one and refuses the other. */
export function tryOutRules(): void {
	closeSync(openSync('/dev/null', 'r+'));
	let fd: number;
	try {
		fd = openSync('/dev/zero', 'r');
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === 'EPERM') return;
		throw error;
	}
	closeSync(fd);
	throw new Error('a device was opened that no rule names');
}
