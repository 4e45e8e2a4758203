import type { ProcessValues } from '../probe/protocol.ts';
import { readText } from './text-files.ts';

/**
 * Whose a process on a GPU is: of a task or of a terminal of this agent, by the control group that was made for it, else by
 * the session that its leader began. Neither can be left by who is in it without privilege (cgroup) or without being no
 * part of it any more (session). Nothing else of a process is looked at: no command line, no user.
 */
export interface ProcessOwner {
	readonly kind: 'task' | 'terminal';
	/** Of the task or terminal. */
	readonly id: string;
	/** As the host that runs it names its control group. */
	readonly box: string;
	/** The control group that its host makes it in; undefined: it makes none. A name alone anybody can give. */
	readonly base: string | undefined;
	/** Undefined: not known. */
	readonly leaderPid: number | undefined;
}

/** Made anew for each sample: owners come and go. */
export function ownerFinder(
	procRoot: string,
	owners: readonly ProcessOwner[],
): (process: Pick<ProcessValues, 'pid'>) => ProcessOwner | undefined {
	const byGroup = new Map(owners.filter(({ base }) => base !== undefined).map((each) => [groupOf(each), each]));
	const bases = new Set(owners.flatMap(({ base }) => (base === undefined ? [] : [base])));
	const byLeader = new Map(owners.map((owner) => [owner.leaderPid, owner]));
	return ({ pid }) => {
		const path = /^0::(\/.*)$/m.exec(readText(`${procRoot}/${pid}/cgroup`) ?? '')?.[1] ?? '';
		for (const base of bases) {
			if (!path.startsWith(`${base}/`)) continue;
			// The task's own group, or one that it made below; the hosts name theirs task-<name>, in one for its devices.
			const box = /^\/(?:devices-[^/]+\/)?task-([^/]+)/.exec(path.slice(base.length))?.[1];
			const owner = box === undefined ? undefined : byGroup.get(groupOf({ base, box }));
			if (owner !== undefined) return owner;
		}
		const session = sessionOf(procRoot, pid);
		return session === undefined ? undefined : byLeader.get(session);
	};
}

function groupOf({ base, box }: Pick<ProcessOwner, 'base' | 'box'>): string {
	return `${base}/task-${box}`;
}

/** Field 6 of /proc/PID/stat, counted from the end of the name, which may hold anything. */
function sessionOf(procRoot: string, pid: number): number | undefined {
	const stat = readText(`${procRoot}/${pid}/stat`);
	if (stat === undefined) return undefined;
	const session = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[3]);
	return Number.isInteger(session) && session > 0 ? session : undefined;
}
