import { closeSync, constants, fstatSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import type { DeviceRule } from '../platform/device-rules.ts';
import { type Bpf, withDescriptor } from './bpf.ts';
import { isSameFolder, isUnpopulated, removeCgroup, removeTree } from './cgroup.ts';
import type { DeviceCgroup, DeviceKind } from './device-groups.ts';
import { assembleDeviceProgram } from './device-program.ts';

/**
 * Groups on cgroup v2: a folder above the cgroups of its programs, with one eBPF program that binds all below. So a
 * task is born into its own cgroup as ever, one level deeper, and nothing is done a task. A change of the rules is one
 * replacement: at no moment is everything open, or what stays allowed closed.
 */
class BpfGroup implements DeviceCgroup {
	readonly folder: string;
	readonly #bpf: Bpf;
	readonly #fd: number;
	#programFd: number | undefined;

	constructor(bpf: Bpf, folder: string) {
		this.folder = folder;
		this.#bpf = bpf;
		mkdirSync(folder, { recursive: true });
		this.#fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
	}

	apply(rules: readonly DeviceRule[]): void {
		const programFd = this.#bpf.load(assembleDeviceProgram(rules));
		try {
			this.#attach(programFd);
		} catch (error) {
			closeSync(programFd);
			throw error;
		}
		if (this.#programFd !== undefined) closeSync(this.#programFd);
		this.#programFd = programFd;
	}

	isInForce(): boolean {
		return this.#programFd !== undefined && this.#attachedIds().includes(this.#bpf.idOf(this.#programFd));
	}

	isThere(): boolean {
		return isSameFolder(this.folder, fstatSync(this.#fd).ino);
	}

	within<T>(work: () => T): T {
		return work();
	}

	sweep(): boolean {
		return isUnpopulated(this.folder) && removeTree(this.folder) && this.remove();
	}

	remove(): boolean {
		if (!removeCgroup(this.folder)) return false;
		if (this.#programFd !== undefined) closeSync(this.#programFd);
		closeSync(this.#fd);
		return true;
	}

	/** In place of ours, else of what a host before this one has left there. */
	#attach(programFd: number): void {
		const ids = this.#attachedIds();
		const isOurs = this.#programFd !== undefined && ids.includes(this.#bpf.idOf(this.#programFd));
		const [leftover] = ids;
		if (isOurs) this.#bpf.attach(this.#fd, programFd, this.#programFd);
		else if (leftover === undefined) this.#bpf.attach(this.#fd, programFd);
		else withDescriptor(this.#bpf.open(leftover), (fd) => this.#bpf.attach(this.#fd, programFd, fd));
	}

	#attachedIds(): readonly number[] {
		return this.#bpf.attached(this.#fd);
	}
}

/** `base`: where the groups are made; `prepare` makes one ready to have cgroups below it. */
export function bpfGroups(bpf: Bpf, base: string, prepare: (folder: string) => void): DeviceKind {
	return {
		mechanism: 'bpf',
		open(group) {
			const cgroup = new BpfGroup(bpf, join(base, `${GROUP}${group}`));
			prepare(cgroup.folder);
			return cgroup;
		},
	};
}

/** How names of groups' cgroups begin. */
export const GROUP = 'devices-';
