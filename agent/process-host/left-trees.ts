/**
 * Trees of cgroups that hosts left behind which will never start again: of folders that were deleted, as of tests and of
 * tries. A tree is named after its host's directory (host-main.ts), and that is an argument of every host's main; so a
 * tree is nobody's when no process has such an argument and nobody is inside. The next host of the machine removes it,
 * if it sees every process: in a container it may share the tree of cgroups with hosts that it doesn't see.
 */
import { readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { messageOf } from '../../kit/error.ts';
import { readCgroup, removeTree } from './cgroup.ts';
import { cgroupIdOf } from './cgroup-base.ts';

const PATH_MAX = 4096;
const TREE = /^gpuaas-([0-9a-f]{12})$/;

/** In `home`, not `own`. */
export function sweepLeftTrees(
	home: string,
	own: string,
	log: (line: string) => void,
	seesAll: () => boolean = seesAllProcesses,
): void {
	try {
		const left = readdirSync(home).filter((name) => TREE.test(name) && name !== own);
		if (left.length === 0) return;
		if (!seesAll()) {
			log(`${left.length} cgroups of other hosts are left alone: this one sees only the processes of its container`);
			return;
		}
		const living = livingIds();
		const dead = left.filter((name) => !living.has(TREE.exec(name)?.[1] ?? '') && isEmpty(join(home, name)));
		const gone = dead.filter((name) => removeTree(join(home, name)));
		if (gone.length > 0) log(`removed ${gone.length} cgroups of hosts that are gone`);
	} catch (error) {
		log(`cgroups of hosts that are gone were not looked for: ${messageOf(error)}`);
	}
}

/** Linux gives its first namespace of process ids this number (PROC_PID_INIT_INO in include/linux/proc_ns.h). */
const WHOLE_MACHINE = 'pid:[4026531836]';

/** Throws where /proc does not say. */
export function seesAllProcesses(): boolean {
	return readlinkSync('/proc/self/ns/pid') === WHOLE_MACHINE;
}

/** In either version of cgroups. */
function isEmpty(cgroup: string): boolean {
	const own = readCgroup(join(cgroup, 'cgroup.procs'));
	const below = readdirSync(cgroup, { withFileTypes: true }).filter((entry) => entry.isDirectory());
	return own === '' && below.every(({ name }) => isEmpty(join(cgroup, name)));
}

/** Of whatever folders processes have as arguments: many more than there are hosts, and never one less. */
function livingIds(): ReadonlySet<string> {
	const ids = new Set<string>();
	for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
		for (const argument of argumentsOf(pid)) {
			ids.add(cgroupIdOf(argument));
			ids.add(cgroupIdOf(realOf(argument)));
		}
	}
	return ids;
}

function argumentsOf(pid: string): readonly string[] {
	try {
		const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
		const folder = readlinkSync(`/proc/${pid}/cwd`);
		return words.filter((word) => word !== '' && word.length <= PATH_MAX).map((word) => resolve(folder, word));
	} catch {
		return [];
	}
}

function realOf(path: string): string {
	try {
		return realpathSync(path);
	} catch {
		return path;
	}
}
