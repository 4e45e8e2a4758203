/**
 * cgroup v2 boxes. The host steps into a task's cgroup, forks, and steps back, all in one turn: the child is born
 * inside, so nothing that it does can happen outside, and no shell is needed to move it. (Moving a started child
 * instead leaves a moment in which it may fork.) cgroup-moves.ts does the steps. Measured: 0.1 ms to make and remove.
 */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LaunchLimits } from '../tasks/process-host.ts';
import type { BoxRemover } from './box-remover.ts';
import type { CgroupMoves } from './cgroup-moves.ts';
import type { DevicePlace } from './device-groups.ts';
import { signal } from './proc.ts';
import { type BoxUsage, rlimitOptions, type TaskBox } from './task-box.ts';

const CPU_PERIOD_US = 100_000;

export interface CgroupBoxParts {
	readonly cgroup: string;
	readonly moves: CgroupMoves;
	readonly limits: LaunchLimits;
	/** Whether the controllers are there that set limits. */
	readonly bounds: boolean;
	/** Undefined: whoever is inside may open whatever device its account may. */
	readonly place: DevicePlace | undefined;
	readonly remover: BoxRemover;
}

export class CgroupBox implements TaskBox {
	readonly cgroup: string;
	readonly rlimits: readonly string[];
	readonly unenforced: readonly (keyof LaunchLimits)[];
	readonly #moves: CgroupMoves;
	readonly #limits: LaunchLimits;
	readonly #bounds: boolean;
	readonly #place: DevicePlace | undefined;
	readonly #remover: BoxRemover;
	#isGivenBack = false;

	constructor({ cgroup, moves, limits, bounds, place, remover }: CgroupBoxParts) {
		this.cgroup = cgroup;
		this.#moves = moves;
		this.#limits = limits;
		this.#bounds = bounds;
		this.#place = place;
		this.#remover = remover;
		this.rlimits = rlimitOptions(limits, bounds);
		this.unenforced = bounds || limits.cpuQuota === undefined ? [] : ['cpuQuota'];
		mkdirSync(cgroup);
		if (bounds && limits.memoryBytes !== undefined) this.#set('memory.max', limits.memoryBytes);
	}

	bear<T>(spawn: () => T): Promise<T> {
		const place = this.#place;
		const work = place === undefined ? spawn : () => place.within(spawn);
		return this.#moves.inside(this.cgroup, work, () => {
			// Only now: these would have bound the host too. The child is still in its exec wrappers.
			if (this.#bounds && this.#limits.processes !== undefined) this.#set('pids.max', this.#limits.processes);
			if (this.#bounds && this.#limits.cpuQuota !== undefined) {
				this.#set('cpu.max', `${Math.ceil(this.#limits.cpuQuota * CPU_PERIOD_US)} ${CPU_PERIOD_US}`);
			}
		});
	}

	kill(): boolean {
		return killCgroup(this.cgroup);
	}

	usage(): BoxUsage | undefined {
		const stat = readCgroup(join(this.cgroup, 'cpu.stat'));
		const us = (name: string) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(stat)?.[1]);
		const [user, system] = [us('user_usec'), us('system_usec')];
		if (Number.isNaN(user) || Number.isNaN(system)) return undefined;
		const peak = Number.parseInt(readCgroup(join(this.cgroup, 'memory.peak')), 10);
		return {
			cpuUserMs: user / 1000,
			cpuSystemMs: system / 1000,
			maxRssBytes: Number.isNaN(peak) ? undefined : peak,
		};
	}

	remove(): boolean {
		// Somebody is at it already.
		if (this.#isGivenBack) return false;
		this.#isGivenBack = true;
		return this.#remover.remove(() => {
			const isGone = removeCgroup(this.cgroup);
			if (isGone) this.#place?.release();
			return isGone;
		});
	}

	#set(file: string, value: string | number): void {
		writeFileSync(join(this.cgroup, file), String(value));
	}
}

/** Empty where there is nothing. */
export function readCgroup(path: string): string {
	try {
		return readFileSync(path, 'latin1');
	} catch {
		return '';
	}
}

/** False when the cgroup is gone, or it isn't certain that everybody inside was reached. */
export function killCgroup(cgroup: string): boolean {
	try {
		writeFileSync(join(cgroup, 'cgroup.kill'), '1');
		return true;
	} catch {
		return killMembers(cgroup);
	}
}

/** A fork bomb of more generations than this outran us. */
const GENERATIONS_MAX = 1000;

/**
 * The same on kernels before 5.14, which have no cgroup.kill. Who was sent SIGKILL forks no more, so once a look shows
 * nobody but those who were sent it before that look, nobody is left to come.
 */
export function killMembers(cgroup: string): boolean {
	const killed = new Set<number>();
	for (let generation = 0; generation < GENERATIONS_MAX; generation += 1) {
		const members = membersOf(cgroup);
		if (members === undefined) return false;
		const fresh = members.filter((pid) => !killed.has(pid));
		if (fresh.length === 0) return true;
		for (const pid of fresh) {
			killed.add(pid);
			signal(pid, 'SIGKILL');
		}
	}
	return false;
}

/** Of the cgroup and of all below it; undefined when there is no such cgroup. */
function membersOf(cgroup: string): readonly number[] | undefined {
	try {
		const own = readFileSync(join(cgroup, 'cgroup.procs'), 'latin1').split('\n');
		// 0: somebody of another pid namespace, whom we can't name.
		const pids = own.filter((line) => line !== '' && line !== '0').map(Number);
		return [...pids, ...foldersIn(cgroup).flatMap((name) => membersOf(join(cgroup, name)) ?? [])];
	} catch {
		return undefined;
	}
}

function foldersIn(cgroup: string): readonly string[] {
	try {
		const entries = readdirSync(cgroup, { withFileTypes: true });
		return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
	} catch {
		return [];
	}
}

/** Whether nobody is inside, nor in any cgroup below; false when it can't be told. */
export function isUnpopulated(cgroup: string): boolean {
	return /^populated 0$/m.test(readCgroup(join(cgroup, 'cgroup.events')));
}

/** Of a cgroup that nobody is in: it and what is below it. True when it is gone. */
export function removeTree(cgroup: string): boolean {
	for (const name of foldersIn(cgroup)) removeTree(join(cgroup, name));
	return removeCgroup(cgroup);
}

/** Whether the folder with this inode is still at `path`. */
export function isSameFolder(path: string, inode: number): boolean {
	return statSync(path, { throwIfNoEntry: false })?.ino === inode;
}

/** True when it is gone. */
export function removeCgroup(cgroup: string): boolean {
	try {
		rmdirSync(cgroup);
		return true;
	} catch (error) {
		return (error as NodeJS.ErrnoException).code === 'ENOENT';
	}
}
