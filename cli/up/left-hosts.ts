import { realpathSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Clock } from '../../kit/clock.ts';
import type { ProcessIdentity } from '../../kit/process-identity.ts';
import { endAll, runningPrograms } from './left-daemons.ts';

/**
 * The hosts of tasks and terminals of this folder's agent. They end with an agent that is stopped (`stop_host_with_agent`);
 * one that was dead at that moment leaves them behind, and with them all that runs in them. Called by `up` when it ends,
 * after its agent.
 */
export interface LeftHost extends ProcessIdentity {
	readonly name: 'process host' | 'pty host';
}

const HOSTS = [
	['process host', 'process-host'],
	['pty host', 'pty-host'],
] as const;

export function hostPath(folder: (typeof HOSTS)[number][1]): string {
	const own = import.meta.url;
	return fileURLToPath(new URL(`../../agent/${folder}/main${own.slice(own.lastIndexOf('.'))}`, own));
}

/** By their program and the folder that it was started for. */
export function leftHosts(root: string, procRoot = '/proc'): readonly LeftHost[] {
	const data = join(realpathSync(root), 'agent');
	return runningPrograms(procRoot).flatMap(({ identity, argv }) => {
		const host = HOSTS.find(([, folder]) => argv.includes(hostPath(folder)) && argv.includes(join(data, folder)));
		return host === undefined ? [] : [{ ...identity, name: host[0] }];
	});
}

/**
 * Which of those that are left end: after Ctrl-C all of them, since it stops everything. A start that failed ends its own;
 * what ran here before it goes on, as it did, until the next `up`.
 */
export function hostsToEnd(
	left: readonly LeftHost[],
	before: readonly LeftHost[],
	isStopped: boolean,
): readonly LeftHost[] {
	if (isStopped) return left;
	return left.filter(
		(host) => !before.some((each) => each.pid === host.pid && each.startTimeTicks === host.startTimeTicks),
	);
}

/** Asked as their units would, so that they end what runs in them and record how. */
export function endHosts(clock: Clock, hosts: readonly LeftHost[]): Promise<void> {
	return endAll(clock, hosts, ({ pid }, signal) => process.kill(pid, signal));
}
