/**
 * Ends what a dead host left behind. Called by the agent the moment its connection to the host is lost, and by the next
 * host before it takes work. Kills only what is proven to belong to the directory's tasks, whatever their pids mean now:
 *
 * - the leader: pid, start time and boot id are those of its record (the kernel has usually killed it: pdeathsig);
 * - a session whose leader is gone, if one member began while the host still lived (then the session was still the
 *   task's, and its number cannot have been given out again while a member lives), or holds a pipe of the directory;
 * - whoever holds a pipe of the directory: the paths of its FIFOs are nobody else's;
 * - whoever is in the cgroup that the intent names.
 *
 * It writes nothing: results are recorded by the next host, which finds HOST_DIED or HOST_REBOOTED by the boot id.
 */
import { readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, sleep } from '../../kit/clock.ts';
import { readDirectoryLock } from '../../kit/directory-lock.ts';
import { bootId as readBootId } from '../../kit/process-identity.ts';
import type { StartedInfo } from '../tasks/process-host.ts';
import { killCgroup, removeCgroup } from './cgroup.ts';
import { fifoFolderOf } from './fifo.ts';
import { holdsFile, listProcesses, type ProcessStat, signal } from './proc.ts';
import { aliveName, readState } from './state.ts';

const ROUNDS_MAX = 250;
const ROUND_MS = 20;

export type ReapOutcome =
	/** Nothing was touched. */
	| { readonly kind: 'HOST_ALIVE' }
	/** `remaining` processes did not go away within 5 s of SIGKILL (uninterruptible sleep). */
	| { readonly kind: 'REAPED'; readonly killed: number; readonly remaining: number };

export interface ReapOptions {
	readonly directory: string;
	readonly clock: Clock;
	/** Uptime in ticks (`uptimeTicks()`) at which the caller saw the host alive or its connection end; default: its sign of life. */
	readonly hostSeenTicks?: number;
}

/** The host's last sign of life in this boot, in ticks; -1 when there is none. */
export function lastSignOfLife(directory: string, bootId: string): number {
	try {
		const [boot, ticks] = readFileSync(join(directory, aliveName), 'utf8').split(' ');
		return boot === bootId && Number.isSafeInteger(Number(ticks)) ? Number(ticks) : -1;
	} catch {
		return -1;
	}
}

function belongings(
	processes: readonly ProcessStat[],
	leaders: readonly StartedInfo[],
	fifoFolder: string,
	seenTicks: number,
): readonly ProcessStat[] {
	const living = processes.filter((stat) => stat.state !== 'Z' && stat.state !== 'X' && stat.pid !== process.pid);
	const holders = new Set(living.filter((stat) => holdsFile(stat.pid, (path) => path.startsWith(fifoFolder))));
	const sessions = new Set<number>();
	for (const leader of leaders) {
		const now = processes.find((stat) => stat.pid === leader.pid);
		if (now !== undefined && now.startTimeTicks !== leader.startTimeTicks) continue;
		const members = living.filter((stat) => stat.sessionId === leader.pid);
		const isProven = (stat: ProcessStat) => stat.startTimeTicks <= seenTicks || holders.has(stat);
		if (now !== undefined || members.some(isProven)) sessions.add(leader.pid);
	}
	return living.filter((stat) => holders.has(stat) || sessions.has(stat.sessionId));
}

export async function reapDirectory(options: ReapOptions): Promise<ReapOutcome> {
	const directory = realpathSync(options.directory);
	if (readDirectoryLock(directory)?.alive === true) return { kind: 'HOST_ALIVE' };
	return reapUnlocked({ ...options, directory });
}

/** For the host itself, which already holds the lock. `directory` must be a real path. */
export async function reapUnlocked(options: ReapOptions): Promise<ReapOutcome> {
	const { directory, clock } = options;
	const bootId = readBootId();
	const seenTicks = Math.max(options.hostSeenTicks ?? -1, lastSignOfLife(directory, bootId));
	const unfinished = [...readState(directory).tasks.values()].filter(
		(task) => task.result === undefined && task.intent.bootId === bootId,
	);
	const leaders = unfinished.map((task) => task.started).filter((started) => started !== undefined);
	const cgroups = unfinished.map((task) => task.intent.cgroup).filter((cgroup) => cgroup !== undefined);
	const killed = new Set<number>();
	for (let round = 1; ; round += 1) {
		for (const cgroup of cgroups) killCgroup(cgroup);
		const found = belongings(listProcesses(), leaders, `${fifoFolderOf(directory)}/`, seenTicks);
		for (const stat of found) if (signal(stat.pid, 'SIGKILL')) killed.add(stat.pid);
		const occupied = cgroups.filter((cgroup) => !removeCgroup(cgroup));
		if ((found.length === 0 && occupied.length === 0) || round === ROUNDS_MAX) {
			return { kind: 'REAPED', killed: killed.size, remaining: found.length + occupied.length };
		}
		await sleep(clock, ROUND_MS);
	}
}
