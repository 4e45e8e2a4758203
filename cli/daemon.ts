import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { GpuaasError } from '../kit/error.ts';
import { loaderArgs } from '../kit/loader-args.ts';

/** The two daemons live beside this folder; the command starts them by path and never imports them. */
export type Daemon = 'agent' | 'control-plane';

export function daemonPath(daemon: Daemon): string {
	const own = import.meta.url;
	return fileURLToPath(new URL(`../${daemon}/main${own.slice(own.lastIndexOf('.'))}`, own));
}

/**
 * The old generation of a daemon may grow so far before V8 collects the whole heap. From its own small start V8 does so
 * for every 10 MB of output or requests that pass through, each time for all of some 30 MB that live: half
 * of the processor time of an upload. It is a threshold, nothing is reserved. `--expose-gc`: see kit/young-garbage.ts.
 */
const HEAP_FLAGS: Readonly<Record<Daemon, readonly string[]>> = {
	agent: ['--initial-old-space-size=64', '--expose-gc'],
	'control-plane': ['--initial-old-space-size=256', '--expose-gc'],
};

/** Node's options for the daemon, before its path. */
export function daemonNodeArgs(daemon: Daemon): readonly string[] {
	return [...loaderArgs(), ...HEAP_FLAGS[daemon]];
}

/** Becomes the daemon: a supervisor's signals, its exit code and its memory are then the daemon's own. */
export function becomeDaemon(daemon: Daemon, argv: readonly string[]): never {
	if (process.execve === undefined) {
		throw new GpuaasError({
			code: 'FAILED_PRECONDITION',
			reason: 'INTERNAL',
			message: 'this Node has no execve; start by ./gpuaas, which uses the pinned Node 24',
		});
	}
	return process.execve(
		process.execPath,
		[process.execPath, ...process.execArgv, ...HEAP_FLAGS[daemon], daemonPath(daemon), ...argv],
		process.env,
	);
}

const ASK_TIMEOUT_MS = 30_000;

/** Runs a daemon's entry for one short answer on its standard output. */
export function askDaemon(daemon: Daemon, argv: readonly string[], timeoutMs = ASK_TIMEOUT_MS): Promise<string> {
	return new Promise((resolve, reject) => {
		execFile(
			process.execPath,
			[...loaderArgs(), daemonPath(daemon), ...argv],
			{ timeout: timeoutMs },
			(error, stdout, stderr) => {
				if (error === null) resolve(stdout);
				else if (error.killed === true) reject(tooSlow(daemon, argv, timeoutMs));
				else {
					reject(
						new GpuaasError({
							code: 'INTERNAL',
							reason: 'INTERNAL',
							message: `the ${daemon} could not answer: ${stderr.trim() || error.message}`,
						}),
					);
				}
			},
		);
	});
}

function tooSlow(daemon: Daemon, [asked = '']: readonly string[], timeoutMs: number): GpuaasError {
	return new GpuaasError({
		code: 'DEADLINE_EXCEEDED',
		reason: 'TIMED_OUT',
		message: `the ${daemon} did not answer ${asked} within ${timeoutMs / 1000} s and was stopped: this machine is too busy, or a disk hangs; when it is quieter (uptime, cat /proc/pressure/*), run the same command again`,
	});
}
