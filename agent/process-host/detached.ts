/**
 * Programs that outlive the agent: one per directory, in a session of its own, found again by its socket and its lock.
 * The process host (tasks) and the pty host (terminals) are such programs; this is how the agent reaches either.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, sleep } from '../../kit/clock.ts';
import { readDirectoryLock } from '../../kit/directory-lock.ts';
import { GpuaasError, messageOf } from '../../kit/error.ts';
import { loaderArgs } from '../../kit/loader-args.ts';
import { preparePrivateDirectory } from './directory.ts';
import { configName, exitHeld, logName } from './state.ts';

/** Short-lived garbage in 1 MB instead of 16: fork copies the page tables of all of it. And see kit/young-garbage.ts. */
const HEAP_FLAGS = ['--max-semi-space-size=1', '--expose-gc'];
const RETRY_MS = 5;
/** Reaping after a crash takes up to 5 s when processes are stuck. */
const START_MS_MAX = 20_000;
/** Somebody else starts it, which takes a second at least. */
const UNIT_RETRY_MS = 50;
/** What a program does in one turn takes less, also on a machine that swaps. */
const GREETING_MS_MAX = 15_000;

export interface DetachedProgram<H> {
	/** For messages. */
	readonly name: string;
	/** Started with the directory as its one argument. */
	readonly mainPath: string;
	/** Rejects with UNAVAILABLE while nobody listens. May be silent for as long as the other side is. */
	readonly connect: (directory: string) => Promise<Connected<H>>;
}

/** A connection on which nothing was said yet: the kernel gives one to a program that is stopped, too. */
export interface Connected<H> {
	/** Resolves once the other side proved that it holds the lock of its directory. */
	readonly greeted: Promise<H>;
	close(): void;
}

export interface DetachedStart<C extends object> {
	/** Made with mode 0700 when it isn't there. */
	readonly directory: string;
	readonly clock: Clock;
	/** Over the program's defaults; takes effect when one is started, not on one that lives. */
	readonly config?: Partial<C>;
	/**
	 * Folder of Node's compile cache, private to us; default: in the directory. From source, a host that finds its files
	 * there needs 57 MB, one that has to strip types itself 90.
	 */
	readonly compileCache?: string;
	/** The systemd unit that starts it: then it is waited for, and never started in a cgroup of ours. */
	readonly unit?: string | undefined;
}

function writeConfig(directory: string, config: object): void {
	const path = join(directory, configName);
	const fd = openSync(`${path}.draft`, 'w', 0o600);
	writeSync(fd, JSON.stringify(config));
	fsyncSync(fd);
	closeSync(fd);
	renameSync(`${path}.draft`, path);
}

/** In a session of its own, with nothing of ours: no environment, no descriptors, no secret in its arguments. */
function spawnDetached(mainPath: string, directory: string, options: DetachedStart<object>): ChildProcess {
	const compileCache = options.compileCache ?? join(directory, 'compile-cache');
	writeConfig(directory, options.config ?? {});
	const child = spawn(process.execPath, [...HEAP_FLAGS, ...loaderArgs(), mainPath, directory], {
		cwd: '/',
		env: hostEnv(compileCache),
		detached: true,
		stdio: 'ignore',
	});
	child.on('error', () => undefined);
	return child;
}

/**
 * What a systemd unit of the program's own runs, in the unit's cgroup: the settings are written, then the command line
 * and environment are the caller's to become (`process.execve`).
 */
export function hostUnit(
	{ mainPath }: Pick<DetachedProgram<unknown>, 'mainPath'>,
	path: string,
	config: object,
): { readonly argv: readonly string[]; readonly env: Readonly<Record<string, string>> } {
	const directory = preparePrivateDirectory(path);
	writeConfig(directory, config);
	return {
		argv: [process.execPath, ...HEAP_FLAGS, ...loaderArgs(), mainPath, directory],
		env: hostEnv(join(directory, 'compile-cache')),
	};
}

function hostEnv(compileCache: string): Record<string, string> {
	return { PATH: '/usr/bin:/bin', NODE_COMPILE_CACHE: compileCache };
}

function lastLogLine(directory: string): string {
	try {
		return readFileSync(join(directory, logName), 'utf8').trimEnd().split('\n').at(-1) ?? '';
	} catch {
		return 'it left no log';
	}
}

/**
 * Resolves with a connection; rejects with UNAVAILABLE when the program fails, or doesn't come up within 20 s, started by
 * us or by its unit.
 */
export async function startDetached<H>(program: DetachedProgram<H>, options: DetachedStart<object>): Promise<H> {
	const { clock, unit } = options;
	const directory = preparePrivateDirectory(options.directory);
	const deadlineMs = clock.monotonic() + START_MS_MAX;
	let child: ChildProcess | undefined;
	try {
		for (;;) {
			try {
				return await greeted(program, directory, options);
			} catch (error) {
				// It lives and goes on: whoever asks is told what to do about it.
				if (error instanceof GpuaasError && error.reason === 'HOST_VERSION') throw withPid(error, directory);
				const isTransient = error instanceof GpuaasError && error.code === 'UNAVAILABLE';
				if (!isTransient || clock.monotonic() > deadlineMs) throw notStarted(program.name, directory, error, unit);
				// One that is about to end still holds its lock: looked at each time, not once.
				if (unit === undefined && readDirectoryLock(directory)?.alive !== true) {
					if (hasFailed(child)) throw notStarted(program.name, directory, error, unit);
					if (child === undefined || child.exitCode === exitHeld)
						child = spawnDetached(program.mainPath, directory, options);
				}
				await sleep(clock, unit === undefined ? RETRY_MS : UNIT_RETRY_MS);
			}
		}
	} finally {
		child?.unref();
	}
}

/** Who is connected and says nothing is stopped, loops or hangs in the kernel: it is ended, and the next one takes over. */
async function greeted<H>(
	{ name, connect }: DetachedProgram<H>,
	directory: string,
	{ clock }: DetachedStart<object>,
): Promise<H> {
	const connection = await connect(directory);
	const enough = new AbortController();
	const late = sleep(clock, GREETING_MS_MAX, enough.signal);
	const host = await Promise.race([connection.greeted, late]).finally(() => enough.abort());
	if (host !== undefined) return host;
	// Its end is of no interest any more.
	connection.greeted.catch(() => undefined);
	connection.close();
	const held = readDirectoryLock(directory);
	// By pid and start time: nobody else.
	if (held?.alive === true) process.kill(held.lock.pid, 'SIGKILL');
	const message = `the ${name} in ${directory} was connected and said nothing for ${GREETING_MS_MAX} ms, so it was killed`;
	// In its own log, where whoever wonders about its tasks looks: it can't say so itself.
	appendFileSync(join(directory, logName), `${new Date(clock.now()).toISOString()} ${message}\n`, { mode: 0o600 });
	throw new GpuaasError({ code: 'UNAVAILABLE', reason: 'UNREACHABLE', message });
}

/** Ended for another reason than that a host of somebody else's holds the lock. */
function hasFailed(child: ChildProcess | undefined): boolean {
	if (child === undefined) return false;
	return child.signalCode !== null || (child.exitCode !== null && child.exitCode !== exitHeld);
}

/** A host of a release so old never makes room by itself. */
function withPid(error: GpuaasError, directory: string): GpuaasError {
	const held = readDirectoryLock(directory);
	if (held?.alive !== true) return error;
	const { code, reason, message } = error;
	return new GpuaasError({
		code,
		reason,
		message: `${message}: process ${held.lock.pid}, by the lock in ${directory} (kill ${held.lock.pid})`,
		cause: error,
	});
}

function notStarted(name: string, directory: string, cause: unknown, unit: string | undefined): GpuaasError {
	const starter =
		unit === undefined ? '' : `; ${unit} starts it, not the agent: look at it with \`systemctl status ${unit}\``;
	return new GpuaasError({
		code: 'UNAVAILABLE',
		reason: 'UNREACHABLE',
		message: `no ${name} in ${directory}: ${messageOf(cause)}${starter}; its log ends: ${lastLogLine(directory)}`,
		cause,
	});
}
