import { closeSync, openSync, renameSync, statSync } from 'node:fs';
import type { Clock } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import type { Rng } from '../../kit/ids.ts';
import { type ChildExit, SupervisedChild } from '../../kit/process.ts';
import { type Daemon, daemonNodeArgs, daemonPath } from '../daemon.ts';
import { markOf } from './left-daemons.ts';

/** One daemon under `up`: kept running, its log in a file, its first line on standard output parsed as "ready". */
export interface DaemonChild extends AsyncDisposable {
	/** The ready line of the newest start; rejects when the daemon ended twice before it was ready. */
	ready(): Promise<Readonly<Record<string, unknown>>>;
	stop(): Promise<void>;
	readonly pid: number | undefined;
}

const LOG_BYTES_MAX = 64 * 1024 * 1024;
const READY_LINE_BYTES_MAX = 64 * 1024;
const STARTS_UNREADY_MAX = 3;

export interface DaemonOptions {
	readonly clock: Clock;
	readonly rng: Rng;
	readonly daemon: Daemon;
	/** Data folder of this `up`. */
	readonly root: string;
	readonly argv: readonly string[];
	readonly logPath: string;
	readonly onRestart: (exit: ChildExit) => void;
}

export function startDaemon(options: DaemonOptions): DaemonChild {
	const { clock, rng, daemon, root, argv, logPath } = options;
	rotate(logPath);
	const log = openSync(logPath, 'a', 0o600);
	let unready = 0;
	const ready = Promise.withResolvers<Readonly<Record<string, unknown>>>();
	// Nobody may be waiting when it fails.
	ready.promise.catch(() => {});
	const child = new SupervisedChild({
		clock,
		rng,
		spec: {
			name: daemon,
			command: process.execPath,
			args: [...daemonNodeArgs(daemon), daemonPath(daemon), ...argv],
			env: { ...childEnv(), ...markOf(root) },
			stdio: ['ignore', 'pipe', log],
			// Ctrl-C goes to `up` alone, which stops its children in order.
			ownGroup: true,
		},
		// The agent ends its tasks' process host before it goes.
		stopGraceMs: 20_000,
		onStart: (started) => {
			let text = '';
			started.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
				if (text.length < READY_LINE_BYTES_MAX) text += chunk;
				const line = readyLine(text);
				if (line !== undefined) {
					unready = -1;
					ready.resolve(line);
				}
			});
		},
		onExit: (exit) => {
			if (unready >= 0) unready += 1;
			if (unready >= STARTS_UNREADY_MAX) ready.reject(neverReady(daemon, exit, logPath));
			if (exit.next !== 'stopped') options.onRestart(exit);
		},
	});
	return {
		ready: () => ready.promise,
		stop: () => child.stop(),
		get pid() {
			return child.pid;
		},
		async [Symbol.asyncDispose]() {
			await child.stop();
			closeSync(log);
		},
	};
}

function readyLine(text: string): Readonly<Record<string, unknown>> | undefined {
	for (const line of text.split('\n').slice(0, -1)) {
		try {
			const parsed = JSON.parse(line) as Record<string, unknown>;
			if (parsed.ready === true) return parsed;
		} catch {
			// Some other line.
		}
	}
	return undefined;
}

function neverReady(daemon: Daemon, exit: ChildExit, logPath: string): GpuaasError {
	const how = exit.error?.message ?? (exit.signal === null ? `exit code ${exit.code}` : `signal ${exit.signal}`);
	return new GpuaasError({
		code: 'UNAVAILABLE',
		reason: 'UNREACHABLE',
		message: `the ${daemon} ended ${STARTS_UNREADY_MAX} times before it was ready (${how}); the last lines of ${logPath} say why`,
	});
}

/** Without GPUAAS_ settings of the shell: `up` decides by the files that it wrote. */
function childEnv(): Record<string, string> {
	const env: Record<string, string> = {};
	for (const [name, value] of Object.entries(process.env)) {
		if (value !== undefined && !name.startsWith('GPUAAS_')) env[name] = value;
	}
	return env;
}

function rotate(path: string): void {
	try {
		if (statSync(path).size > LOG_BYTES_MAX) renameSync(path, `${path}.1`);
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
	}
}
