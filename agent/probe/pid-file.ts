import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { isSameProcess, type ProcessIdentity, processIdentity } from '../../kit/process-identity.ts';

/**
 * Which process does a job of this data folder (the probe of GPUs, whoever asks a disk), across restarts of the agent: one
 * that hangs in the kernel outlives the agent that started it, and a second beside it would only hang too.
 */
export class PidFile {
	readonly #path: string;

	constructor(path: string) {
		this.#path = path;
	}

	write(pid: number): void {
		const identity = processIdentity(pid);
		if (identity !== undefined) writeFileSync(this.#path, JSON.stringify(identity), { mode: 0o600 });
	}

	/** The pid of the one before that still lives. */
	living(): number | undefined {
		const identity = this.#read();
		return identity !== undefined && isSameProcess(identity) ? identity.pid : undefined;
	}

	/** Wall clock: when it was written down, which is when the process was started. */
	sinceMs(): number | undefined {
		return statSync(this.#path, { throwIfNoEntry: false })?.mtimeMs;
	}

	remove(): void {
		rmSync(this.#path, { force: true });
	}

	#read(): ProcessIdentity | undefined {
		try {
			const value = JSON.parse(readFileSync(this.#path, 'utf8')) as Partial<ProcessIdentity>;
			const { pid, startTimeTicks, bootId } = value;
			return pid !== undefined && startTimeTicks !== undefined && bootId !== undefined
				? { pid, startTimeTicks, bootId }
				: undefined;
		} catch {
			return undefined;
		}
	}
}
