import { execFile, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { GpuaasError } from '../kit/error.ts';
import { loaderArgs } from '../kit/loader-args.ts';
import { EXIT } from './exit-codes.ts';
import type { Io } from './io.ts';

/** The two daemons live beside this folder; the command starts them by path and never imports them. */
export type Daemon = 'agent' | 'control-plane';

export function daemonPath(daemon: Daemon): string {
	const own = import.meta.url;
	return fileURLToPath(new URL(`../${daemon}/main${own.slice(own.lastIndexOf('.'))}`, own));
}

/** Runs a daemon in the foreground on this terminal and ends as it ended; Ctrl-C reaches it through us. */
export function runDaemon(io: Io, daemon: Daemon, argv: readonly string[]): Promise<number> {
	return new Promise((resolve, reject) => {
		const child = spawn(process.execPath, [...loaderArgs(), daemonPath(daemon), ...argv], { stdio: 'inherit' });
		// A terminal already signals the whole foreground group; a supervisor signals only us.
		const forward = () => void child.kill('SIGTERM');
		io.interrupt.addEventListener('abort', forward, { once: true });
		child.on('error', reject);
		child.on('exit', (code, signal) => resolve(code ?? (signal === null ? EXIT.failed : EXIT.signalBase + 15)));
	});
}

const ASK_TIMEOUT_MS = 30_000;

/** Runs a daemon's entry for one short answer on its standard output. */
export function askDaemon(daemon: Daemon, argv: readonly string[]): Promise<string> {
	return new Promise((resolve, reject) => {
		execFile(
			process.execPath,
			[...loaderArgs(), daemonPath(daemon), ...argv],
			{ timeout: ASK_TIMEOUT_MS },
			(error, stdout, stderr) => {
				if (error === null) resolve(stdout);
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
