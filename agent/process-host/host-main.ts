/**
 * What every detached host does around its own work, from its first line to its last: a private directory, one host a
 * directory (lock.ts), a log of bounded size, a sign of life for `reap`, signals, the socket, and no way to go on when
 * its state is unknown. The mains of the process host and of the pty host consist of this and of what they own.
 */
import { appendFileSync, chmodSync, openSync, rmSync, statSync, watch, writeSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { join } from 'node:path';
import { type Clock, every, systemClock } from '../../kit/clock.ts';
import { acquireDirectoryLock } from '../../kit/directory-lock.ts';
import { hex, systemRng } from '../../kit/ids.ts';
import { type ProcessIdentity, processIdentity } from '../../kit/process-identity.ts';
import { ownVersion } from '../../kit/version.ts';
import { cgroupIdOf } from './cgroup-base.ts';
import { preparePrivateDirectory } from './directory.ts';
import { sampleMs } from './limits.ts';
import { uptimeTicks } from './proc.ts';
import { aliveName, exitHeld, logName, socketName } from './state.ts';

const LOG_BYTES_MAX = 256 << 10;
const SHUTDOWN_GRACE_MS = 10_000;

/** What a host has before it has begun; it holds the lock. */
export interface HostBase {
	readonly clock: Clock;
	/** A real path, private to this user. */
	readonly directory: string;
	readonly identity: ProcessIdentity;
	/** Of this instance: what clients tell it by. */
	readonly instanceId: string;
	/** Of the package that it runs from, as it was when it began: an upgrade may put another in its place. */
	readonly release: string;
	/** Tells the cgroups of hosts with different directories apart. */
	readonly cgroupId: string;
	readonly log: (line: string) => void;
}

export interface OpenHost {
	/** Resolves when clients may connect; `onShutdown` is for the one that asks for the end. */
	serve(socketPath: string, onShutdown: (graceMs: number) => void): Promise<unknown>;
	/** Ends what it runs, and records how. */
	shutdown(graceMs: number): void | Promise<void>;
	/** Called with each sign of life. */
	beat?(): void;
	/** For the log. */
	describe(): string;
}

const AGAIN = '--compiled';

/**
 * Run from source, the first host after an install or an update strips types itself, and the stripper stays in its
 * memory: 103 MB against 60, and every fork copies that (measured: 1.3 ms of system time a task against 0.7). What was
 * compiled is kept in Node's compile cache, and this process begins anew with it, once.
 */
function beginAnewIfStripped(): void {
	const { moduleLoadList = [] } = process as { readonly moduleLoadList?: readonly string[] };
	if (process.argv[3] === AGAIN || process.execve === undefined) return;
	if (!moduleLoadList.some((name) => name.includes('deps/amaro'))) return;
	flushCompileCache();
	const argv = [process.execPath, ...process.execArgv, process.argv[1] ?? '', process.argv[2] ?? '', AGAIN];
	process.execve(process.execPath, argv, process.env);
}

function logTo(path: string): (line: string) => void {
	return (line) => {
		try {
			if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > LOG_BYTES_MAX) rmSync(path);
			appendFileSync(path, `${new Date(systemClock.now()).toISOString()} ${line}\n`, { mode: 0o600 });
		} catch {
			// The log is a courtesy; the records are what counts.
		}
	};
}

/** Ends this process, with the code that says so, where another host owns the directory. */
function begin(directory: string, log: (line: string) => void): HostBase {
	const identity = processIdentity(process.pid);
	if (identity === undefined) throw new Error('/proc is not mounted');
	const instanceId = hex(systemRng.bytes(16));
	const outcome = acquireDirectoryLock(directory, { ...identity, instanceId });
	if (outcome.kind === 'HELD') {
		log(`not started: process ${outcome.by?.pid} already owns ${directory}`);
		process.exit(exitHeld);
	}
	const cgroupId = cgroupIdOf(directory);
	const release = ownVersion(import.meta.url);
	return { clock: systemClock, directory, identity, instanceId, release, cgroupId, log };
}

/** What `reap` goes by; not synced, because it only has to outlive this process. */
function startSignsOfLife({ clock, directory, identity, log }: HostBase, host: OpenHost): void {
	const fd = openSync(join(directory, aliveName), 'w', 0o600);
	const beat = () => {
		writeSync(fd, `${identity.bootId} ${String(uptimeTicks()).padEnd(20)}`, 0);
		host.beat?.();
	};
	beat();
	every(clock, sampleMs, beat, (error) => log(`sign of life: ${error}`));
}

async function run(base: HostBase, open: (base: HostBase) => Promise<OpenHost>): Promise<void> {
	const { directory, log } = base;
	// Kit timers don't keep a process alive; until the socket listens, this does.
	const awake = watch(directory);
	const host = await open(base);
	startSignsOfLife(base, host);
	let isEnding = false;
	const end = (graceMs: number) => {
		if (isEnding) return;
		isEnding = true;
		void Promise.resolve(host.shutdown(graceMs)).finally(() => process.exit(0));
	};
	process.on('SIGTERM', () => end(SHUTDOWN_GRACE_MS));
	process.on('SIGINT', () => end(SHUTDOWN_GRACE_MS));
	process.on('SIGHUP', () => undefined);
	const socketPath = join(directory, socketName);
	rmSync(socketPath, { force: true });
	process.umask(0o077);
	await host.serve(socketPath, end);
	chmodSync(socketPath, 0o600);
	awake.close();
	flushCompileCache();
	log(`ready: pid ${process.pid}, ${host.describe()}`);
}

/** The whole of a main. The directory is the one argument; `open` begins what the host owns. */
export function runHostProgram(open: (base: HostBase) => Promise<OpenHost>): void {
	beginAnewIfStripped();
	const directory = preparePrivateDirectory(process.argv[2] ?? '');
	const log = logTo(join(directory, logName));
	const fail = (error: unknown) => {
		log(`failed: ${error instanceof Error ? error.stack : error}`);
		process.exit(1);
	};
	// A host that doesn't know its own state must not go on; the kernel and the next host end what it ran.
	process.on('uncaughtException', fail);
	Promise.try(() => run(begin(directory, log), open)).catch(fail);
}
