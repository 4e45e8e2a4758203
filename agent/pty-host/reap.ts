/**
 * Ends what a dead pty host left running, by the records that it wrote at each start. The kernel has hung up their
 * terminals and killed their leaders (pdeathsig); this is for whoever ignored that. Only what is proven to be of a
 * recorded session is killed: its leader by pid, start time and boot; members by their session when one began while the
 * host still lived.
 */
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { bootId } from '../../kit/process-identity.ts';
import { killCgroup, removeCgroup } from '../process-host/cgroup.ts';
import { listProcesses, signal } from '../process-host/proc.ts';
import { lastSignOfLife } from '../process-host/reap.ts';
import type { ChannelStatus } from './pty-host.ts';

export const channelsName = 'channels';

interface ChannelRecord {
	readonly pid: number;
	readonly startTimeTicks?: number;
	readonly bootId?: string;
	readonly cgroup?: string;
	readonly user: string;
	readonly tty: boolean;
}

/** Called by the next host, which holds the lock. Returns the channels that ended so, each with its outcome. */
export function reapChannels(directory: string): readonly ChannelStatus[] {
	const folder = join(directory, channelsName);
	const boot = bootId();
	const seenTicks = lastSignOfLife(directory, boot);
	const lost: ChannelStatus[] = [];
	for (const id of namesIn(folder)) {
		const record = readRecord(join(folder, id));
		rmSync(join(folder, id), { force: true });
		if (record === undefined) continue;
		const isThisBoot = record.bootId === undefined || record.bootId === boot;
		if (isThisBoot) endRecorded(record, seenTicks);
		const outcome = isThisBoot
			? { reason: 'HOST_DIED', message: 'the pty host of the node died, and its terminals with it' }
			: { reason: 'HOST_REBOOTED', message: 'the node restarted' };
		lost.push({ id, user: record.user, tty: record.tty, offsets: { stdin: 0, stdout: 0, stderr: 0 }, outcome });
	}
	return lost;
}

/** Channels whose programs run now, by the records of the host: for who asks whose a process is. */
export function runningChannels(directory: string): readonly { readonly id: string; readonly pid: number }[] {
	const folder = join(directory, channelsName);
	return namesIn(folder).flatMap((id) => {
		const pid = readRecord(join(folder, id))?.pid;
		return pid === undefined ? [] : [{ id, pid }];
	});
}

function endRecorded({ pid, startTimeTicks, cgroup }: ChannelRecord, seenTicks: number): void {
	if (cgroup !== undefined) {
		killCgroup(cgroup);
		removeCgroup(cgroup);
	}
	const processes = listProcesses();
	const leader = processes.find((stat) => stat.pid === pid);
	if (leader !== undefined && leader.startTimeTicks !== startTimeTicks) return;
	const members = processes.filter((stat) => stat.sessionId === pid && stat.state !== 'Z');
	if (leader === undefined && !members.some((stat) => stat.startTimeTicks <= seenTicks)) return;
	for (const member of members) signal(member.pid, 'SIGKILL');
}

function namesIn(folder: string): readonly string[] {
	try {
		return readdirSync(folder);
	} catch {
		return [];
	}
}

function readRecord(path: string): ChannelRecord | undefined {
	try {
		return JSON.parse(readFileSync(path, 'utf8')) as ChannelRecord;
	} catch {
		// Torn by the crash: it was never announced.
		return undefined;
	}
}
