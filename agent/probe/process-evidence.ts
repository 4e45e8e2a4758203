import { readFileSync } from 'node:fs';

/**
 * What the kernel says about a process that doesn't answer: its state (D is uninterruptible: not even SIGKILL ends it),
 * where in the kernel it waits, and the stack there where root may read it.
 */
export interface ProcessEvidence {
	/** As in proc(5): R, S, D, Z, T ...; empty when the process is gone. */
	readonly state: string;
	readonly waitsIn: string;
	readonly stack: string;
}

const STACK_LENGTH_MAX = 700;

export function readEvidence(pid: number, procRoot = '/proc'): ProcessEvidence {
	const stat = text(`${procRoot}/${pid}/stat`);
	return {
		// The command name may contain spaces and parentheses: the state follows the last one.
		state: stat === '' ? '' : stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3),
		waitsIn: text(`${procRoot}/${pid}/wchan`),
		stack: text(`${procRoot}/${pid}/stack`).trim().replaceAll('\n', ' < ').slice(0, STACK_LENGTH_MAX),
	};
}

export function describeEvidence({ state, waitsIn, stack }: ProcessEvidence): string {
	const parts = [`state ${state === '' ? 'gone' : state}`];
	if (waitsIn !== '' && waitsIn !== '0') parts.push(`waits in ${waitsIn}`);
	if (stack !== '') parts.push(`kernel stack ${stack}`);
	return parts.join(', ');
}

function text(path: string): string {
	try {
		return readFileSync(path, 'latin1');
	} catch {
		return '';
	}
}
