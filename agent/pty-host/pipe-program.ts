import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { present } from '../../kit/assert.ts';
import { messageOf } from '../../kit/error.ts';
import { signalNumber, unprovenExit, type Waiter } from '../process-host/waiter.ts';
import type { Launch, Program, ProgramEvents } from './program.ts';
import type { OutputName } from './pty-host.ts';

/** A program on three pipes: what it writes to stdout and stderr stays apart, and its stdin ends when ours does. */
export function startOnPipes({ file, args, env }: Launch, waiter: Waiter, events: ProgramEvents): Program {
	const child = spawn(file, args, { cwd: '/', env: { ...env }, detached: true, stdio: 'pipe' });
	const outputs: Readonly<Record<OutputName, Readable>> = { stdout: child.stdout, stderr: child.stderr };
	for (const [stream, readable] of Object.entries(outputs) as [OutputName, Readable][]) {
		readable.on('data', (bytes: Buffer) => events.onData(stream, bytes));
		readable.on('error', () => readable.destroy());
		readable.on('close', () => events.onEnd(stream));
	}
	// EPIPE: the program reads no more; the channel goes on.
	child.stdin.on('error', () => child.stdin.destroy());
	child.on('error', () => {});
	const pid = present(child.pid, 'the wrappers were found when this host started');
	const ended = waiter.adopt(child).finally(() => child.stdin.destroy());
	ended.then(
		({ end }) => {
			if (end.kind === 'SIGNALED') return events.onExit({ signal: signalNumber(end.signal) });
			const { exitCode, isUnproven } = end;
			events.onExit(isUnproven === true ? { exitCode, message: unprovenExit } : { exitCode });
		},
		(error: unknown) => events.onExit({ reason: 'TERMINAL_LOST', message: messageOf(error) }),
	);
	return {
		pid,
		write(bytes, done) {
			// A program that closed its stdin takes and forgets whatever comes, as a shell's pipe does.
			if (child.stdin.destroyed || child.stdin.writableEnded) done();
			else child.stdin.write(bytes, () => done());
		},
		endInput: () => child.stdin.end(),
		pause: (stream) => void outputs[stream].pause(),
		resume: (stream) => void outputs[stream].resume(),
		resize: () => {},
		destroy() {
			child.stdin.destroy();
			for (const readable of Object.values(outputs)) readable.destroy();
		},
	};
}
