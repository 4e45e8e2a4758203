import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { DeviceRule } from '../platform/device-rules.ts';
import { isSameFolder, removeCgroup } from './cgroup.ts';
import { GROUP } from './device-bpf.ts';
import type { DeviceCgroup, DeviceKind } from './device-groups.ts';

/**
 * Groups on hosts whose devices are held by cgroup v1: a folder of the `devices` controller, which has nothing to do
 * with the cgroups that bound and kill tasks. This process steps into it for the length of a fork. The steps cost little
 * next to the one into the task's own cgroup, which has warmed the kernel's lock (cgroup-moves.ts).
 */
class Cgroup1 implements DeviceCgroup {
	readonly folder = undefined;
	readonly #path: string;
	readonly #homeFd: number;
	readonly #inode: number;
	#wanted: ReadonlySet<string> = new Set();

	constructor(path: string, homeFd: number) {
		this.#path = path;
		this.#homeFd = homeFd;
		mkdirSync(path, { recursive: true });
		this.#inode = statSync(path).ino;
	}

	/** The controller has no replacement in one step: what is new is opened first, then what is gone is closed. */
	apply(rules: readonly DeviceRule[]): void {
		const wanted = linesOf(rules);
		const current = this.#list();
		const isFresh = current.some((line) => line.startsWith('a '));
		if (isFresh) this.#write('devices.deny', 'a');
		const had = new Set(isFresh ? [] : current);
		for (const rule of had) {
			// One number has one entry: its kinds of access are taken away before others are given.
			const number = rule.slice(0, rule.lastIndexOf(' '));
			if (!wanted.has(rule)) this.#write('devices.deny', `${number} rwm`);
		}
		for (const rule of wanted) if (!had.has(rule)) this.#write('devices.allow', rule);
		this.#wanted = wanted;
	}

	isInForce(): boolean {
		const list = this.#list();
		return list.length === this.#wanted.size && list.every((line) => this.#wanted.has(line));
	}

	isThere(): boolean {
		return isSameFolder(this.#path, this.#inode);
	}

	within<T>(work: () => T): T {
		this.#write('cgroup.procs', '0');
		try {
			return work();
		} finally {
			writeSync(this.#homeFd, '0');
		}
	}

	/** Who is inside stays held to its rules, and the next host takes it over. */
	remove(): boolean {
		return removeCgroup(this.#path);
	}

	/** The cgroups of its programs are elsewhere. */
	sweep(): boolean {
		return this.remove();
	}

	#list(): readonly string[] {
		const text = readFileSync(join(this.#path, 'devices.list'), 'latin1');
		return text.split('\n').filter((line) => line !== '');
	}

	#write(file: string, text: string): void {
		writeFileSync(join(this.#path, file), text);
	}
}

/** As the kernel lists them: one line a number, with all that rules grant of it. */
function linesOf(rules: readonly DeviceRule[]): ReadonlySet<string> {
	const granted = new Map<string, string>();
	for (const { type, major, minor, access } of rules) {
		const number = `${type} ${major}:${minor}`;
		const all = `${granted.get(number) ?? ''}${access}`;
		granted.set(number, ['r', 'w'].filter((kind) => all.includes(kind)).join(''));
	}
	return new Set(Array.from(granted, ([number, access]) => `${number} ${access}`));
}

/** Mount point of the controller and our own place in it. */
export function findOwnDevices(
	cgroups: string,
	mounts: string,
): { readonly mount: string; readonly path: string } | undefined {
	const path = /^\d+:(?:[^:]*,)?devices(?:,[^:]*)?:(\/.*)$/m.exec(cgroups)?.[1];
	const mount = /^\S+ \S+ \S+ \S+ (\S+) [^-]*- cgroup \S+ (?:\S*,)?devices(?:,\S*)?$/m.exec(mounts)?.[1];
	return path === undefined || mount === undefined ? undefined : { mount, path };
}

/** `home`: the folder of the cgroup that this process lives in; `base`: where the groups are made. Throws when it may not be written. */
export function cgroup1Groups(home: string, base: string): DeviceKind & { close(): void } {
	const homeFd = openSync(join(home, 'cgroup.procs'), 'w');
	mkdirSync(base, { recursive: true });
	for (const name of readdirSync(base)) if (name.startsWith(GROUP)) removeCgroup(join(base, name));
	return {
		mechanism: 'cgroup1',
		open: (group) => new Cgroup1(join(base, `${GROUP}${group}`), homeFd),
		close() {
			closeSync(homeFd);
			removeCgroup(base);
		},
	};
}
