/**
 * Where a host has the cgroups of what it runs, as others find it: for who asks whose a process is. Anybody with a
 * delegated cgroup may name one like a task's; nobody but the host makes one there.
 */
import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { join } from 'node:path';
import { readDirectoryLock } from '../../kit/directory-lock.ts';
import { readCgroup } from './cgroup.ts';

/** Tells the cgroups of hosts with different directories apart. `directory`: a real path. */
export function cgroupIdOf(directory: string): string {
	return createHash('sha256').update(directory).digest('hex').slice(0, 12);
}

/** A path in cgroup v2 as /proc says it; undefined where no host lives, or in a place where it makes none. */
export function cgroupBaseOf(directory: string, procRoot: string): string | undefined {
	let real: string;
	try {
		real = realpathSync(directory);
	} catch {
		return undefined;
	}
	const held = readDirectoryLock(real);
	if (held?.alive !== true) return undefined;
	const own = cgroup2Of(readCgroup(join(procRoot, String(held.lock.pid), 'cgroup')));
	// As boxes.ts puts them: beside the host where its own cgroup is delegated to it, else in one that it made.
	if (own === '/') return `/gpuaas-${cgroupIdOf(real)}`;
	return own?.endsWith('/host') === true ? own.slice(0, -'/host'.length) : undefined;
}

/** Of the text of /proc/PID/cgroup. */
function cgroup2Of(groups: string): string | undefined {
	return /^0::(\/.*)$/m.exec(groups)?.[1];
}
