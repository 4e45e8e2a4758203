import { readdirSync, readFileSync, realpathSync } from 'node:fs';
import { type Clock, sleep } from '../../kit/clock.ts';
import { isSameProcess, type ProcessIdentity, processIdentity } from '../../kit/process-identity.ts';
import { type Daemon, daemonPath } from '../daemon.ts';

/**
 * The daemons of an `up` that was killed: nobody starts them again, and they hold ports and databases of the folder. They are
 * found by a mark in their environment, which they have from their first instant on, so that no moment of a kill leaves one
 * that nobody wrote down; one that a person started in this folder has none and is left alone.
 * Called by `up` while it holds the folder, so no other `up` lives whose daemons these could be.
 */
const MARK = 'UP_FOLDER';
/** As a stopping `up` gives its daemons. */
const GRACE_MS_MAX = 20_000;
const POLL_MS = 50;

export interface LeftDaemon extends ProcessIdentity {
	readonly daemon: Daemon;
}

/** What the daemons of this folder have in their environment. */
export function markOf(root: string): Readonly<Record<string, string>> {
	return { [MARK]: realpathSync(root) };
}

export function leftDaemons(root: string, procRoot = '/proc'): readonly LeftDaemon[] {
	const mark = `${MARK}=${realpathSync(root)}`;
	return runningPrograms(procRoot).flatMap(({ identity, argv }) => {
		const daemon = (['agent', 'control-plane'] as const).find((each) => argv.includes(daemonPath(each)));
		const isOurs = daemon !== undefined && strings(`${procRoot}/${identity.pid}/environ`).includes(mark);
		return isOurs ? [{ ...identity, daemon }] : [];
	});
}

/** All but this one. */
export function runningPrograms(
	procRoot: string,
): readonly { readonly identity: ProcessIdentity; readonly argv: readonly string[] }[] {
	return readdirSync(procRoot).flatMap((name) => {
		// Taken first: what is read afterwards is of this process, or of one that `isSameProcess` tells apart.
		const identity = processIdentity(Number(name), procRoot);
		if (identity === undefined || identity.pid === process.pid) return [];
		return [{ identity, argv: strings(`${procRoot}/${name}/cmdline`) }];
	});
}

/**
 * Ends them and waits until they are gone. The control plane as Ctrl-C would, so that it completes what it records; the agent
 * as a crash would: asked to stop it would end the tasks and terminals as well, which go on under the next one.
 */
export function endLeftDaemons(clock: Clock, left: readonly LeftDaemon[]): Promise<void> {
	// Each leads a group of its own, with the helpers that it started.
	return endAll(clock, left, ({ pid, daemon }, signal) => process.kill(-pid, daemon === 'agent' ? 'SIGKILL' : signal));
}

/** SIGTERM, SIGKILL for who is there after the time that a stop has, and waits until all are gone. */
export async function endAll<P extends ProcessIdentity>(
	clock: Clock,
	left: readonly P[],
	kill: (process: P, signal: NodeJS.Signals) => void,
): Promise<void> {
	for (const each of left) killIfSame(each, 'SIGTERM', kill);
	const startedAtMs = clock.monotonic();
	let isPatient = true;
	while (left.some((each) => isSameProcess(each))) {
		if (isPatient && clock.monotonic() - startedAtMs > GRACE_MS_MAX) {
			isPatient = false;
			for (const each of left) killIfSame(each, 'SIGKILL', kill);
		}
		await sleep(clock, POLL_MS);
	}
}

function killIfSame<P extends ProcessIdentity>(
	left: P,
	signal: NodeJS.Signals,
	kill: (process: P, signal: NodeJS.Signals) => void,
): void {
	if (!isSameProcess(left)) return;
	try {
		kill(left, signal);
	} catch (error) {
		// It ended by itself.
		if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
	}
}

/** NUL-separated; empty when the process ended, or is somebody else's. */
function strings(path: string): readonly string[] {
	try {
		return readFileSync(path, 'utf8').split('\0');
	} catch {
		return [];
	}
}
