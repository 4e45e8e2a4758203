/** Connects to the host of a directory, and starts one first where none lives. Called by the agent's main. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Clock, sleep } from '../../kit/clock.ts';
import { GpuaasError, messageOf } from '../../kit/error.ts';
import { loaderArgs } from '../../kit/loader-args.ts';
import { connectProcessHost, type SocketProcessHost } from './client.ts';
import { preparePrivateDirectory } from './directory.ts';
import type { HostConfig } from './limits.ts';
import { readHostLock } from './lock.ts';
import { configName, exitHeld, logName } from './state.ts';

/** Short-lived garbage in 1 MB instead of 16: fork copies the page tables of all of it. */
const HEAP_FLAGS = ['--max-semi-space-size=1'];
const RETRY_MS = 5;
/** Reaping after a crash takes up to 5 s when processes are stuck. */
const START_MS_MAX = 20_000;

export interface StartOptions {
	/** Made with mode 0700 when it isn't there. */
	readonly directory: string;
	readonly clock: Clock;
	/** Over `defaultHostConfig`; takes effect when a host is started, not on one that lives. */
	readonly config?: Partial<HostConfig>;
	/**
	 * Folder of Node's compile cache, private to us; default: in the directory. From source, a host that finds its files
	 * there needs 57 MB, one that has to strip types itself 90.
	 */
	readonly compileCache?: string;
}

const mainPath = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './main.ts' : './main.js', import.meta.url));

function writeConfig(directory: string, config: Partial<HostConfig>): void {
	const path = join(directory, configName);
	const fd = openSync(`${path}.draft`, 'w', 0o600);
	writeSync(fd, JSON.stringify(config));
	fsyncSync(fd);
	closeSync(fd);
	renameSync(`${path}.draft`, path);
}

/** In a session of its own, with nothing of ours: no environment, no descriptors, no secret in its arguments. */
function spawnHost(directory: string, options: StartOptions): ChildProcess {
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
 * What a systemd unit of the host's own runs, in the unit's cgroup: the settings are written, then the command line
 * and environment are the caller's to become (`process.execve`).
 */
export function prepareHostUnit(
	path: string,
	config: Partial<HostConfig>,
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

/** Resolves with a connection; rejects with UNAVAILABLE when the host fails, or doesn't come up within 20 s. */
export async function startProcessHost(options: StartOptions): Promise<SocketProcessHost> {
	const { clock } = options;
	const directory = preparePrivateDirectory(options.directory);
	const deadlineMs = clock.monotonic() + START_MS_MAX;
	let child: ChildProcess | undefined;
	try {
		for (;;) {
			try {
				return await connectProcessHost(directory);
			} catch (error) {
				const isTransient = error instanceof GpuaasError && error.code === 'UNAVAILABLE';
				if (!isTransient || clock.monotonic() > deadlineMs) throw notStarted(directory, error);
				// One that is about to end still holds its lock: looked at each time, not once.
				if (readHostLock(directory)?.alive !== true) {
					if (hasFailed(child)) throw notStarted(directory, error);
					if (child === undefined || child.exitCode === exitHeld) child = spawnHost(directory, options);
				}
				await sleep(clock, RETRY_MS);
			}
		}
	} finally {
		child?.unref();
	}
}

/** Ended for another reason than that a host of somebody else's holds the lock. */
function hasFailed(child: ChildProcess | undefined): boolean {
	if (child === undefined) return false;
	return child.signalCode !== null || (child.exitCode !== null && child.exitCode !== exitHeld);
}

function notStarted(directory: string, cause: unknown): GpuaasError {
	return new GpuaasError({
		code: 'UNAVAILABLE',
		reason: 'UNREACHABLE',
		message: `no process host in ${directory}: ${messageOf(cause)}; its log ends: ${lastLogLine(directory)}`,
		cause,
	});
}
