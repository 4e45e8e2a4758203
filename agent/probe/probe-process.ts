import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { loaderArgs } from '../../kit/loader-args.ts';
import type { ProbeAnswer, ProbeRequest } from './protocol.ts';
import { SMALL_HEAP_ARGS } from './small-heap.ts';

/** A running probe, as the keeper sees it: tests have one of their own. */
export interface ProbeProcess {
	readonly pid: number | undefined;
	send(request: ProbeRequest): void;
	kill(signal: NodeJS.Signals): void;
	/** Nothing of it keeps the agent alive any more. */
	abandon(): void;
}

export interface ProbeListeners {
	readonly onAnswer: (answer: ProbeAnswer) => void;
	/** Once, when it is gone for good; also when it could not be started. */
	readonly onExit: (why: string) => void;
}

export type StartProbe = (listeners: ProbeListeners) => ProbeProcess;

const mainPath = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './main.ts' : './main.js', import.meta.url));

export interface ProbeProgram {
	/** Name or path of the driver's library. */
	readonly library: string;
	/** File into which it writes what it is doing. */
	readonly tracePath: string;
	readonly compileCache: string;
	/** Path of its main; default: our own. */
	readonly main?: string;
}

export function probeStarter({ library, tracePath, compileCache, main = mainPath }: ProbeProgram): StartProbe {
	return (listeners) => {
		const child = spawn(process.execPath, [...SMALL_HEAP_ARGS, ...loaderArgs(), main, library, tracePath], {
			cwd: '/',
			env: { PATH: '/usr/bin:/bin', NODE_COMPILE_CACHE: compileCache },
			// Its complaints belong in the agent's log stream; it has nothing to read.
			stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
			serialization: 'advanced',
			// A Ctrl-C at the agent's terminal is for the agent, which then says goodbye to the driver in order.
			detached: true,
		});
		return attach(child, listeners);
	};
}

function attach(child: ChildProcess, { onAnswer, onExit }: ProbeListeners): ProbeProcess {
	let isGone = false;
	const gone = (why: string) => {
		if (isGone) return;
		isGone = true;
		onExit(why);
	};
	child.on('message', (message) => onAnswer(message as ProbeAnswer));
	// A child without a pid never ran and has no `exit`; other errors (a channel that closed) come with one.
	child.on('error', (error) => {
		if (child.pid === undefined) gone(error.message);
	});
	child.on('exit', (code, signal) => gone(signal === null ? `exit code ${code}` : `signal ${signal}`));
	return {
		pid: child.pid,
		send(request) {
			// A channel that is closed is followed by an exit, which is what counts.
			if (child.connected) child.send(request, () => undefined);
		},
		kill: (signal) => void child.kill(signal),
		abandon() {
			if (child.connected) child.disconnect();
			child.unref();
		},
	};
}
