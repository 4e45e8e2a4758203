/**
 * Pipes for tasks. Node makes socket pairs for a child's output, and a task that opens /dev/stdout or /dev/stderr by
 * name then gets ENXIO, as many scripts do; a FIFO is a true pipe. `mkfifo` makes a batch of them at once, so a task
 * costs no process of its own. A FIFO is unlinked when it is opened, yet /proc/<pid>/fd still shows its path: whoever
 * holds a file of this folder belongs to a task of this host, which is how `reap` knows its processes without doubt.
 */
import { execFile } from 'node:child_process';
import { closeSync, constants, mkdirSync, openSync, rmSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';

const BATCH = 64;
const REFILL_BELOW = 32;
/** Their folder is 0700, so only a task that already holds one can reopen it (as its own user, by /dev/stdout). */
const MODE = '666';

export interface OpenPipe {
	/** As /proc/<pid>/fd shows it, with ` (deleted)` behind it. */
	readonly path: string;
	readonly readFd: number;
	readonly writeFd: number;
}

/** The host reads (non-blocking), the task writes. */
export function openForOutput(path: string): OpenPipe {
	const readFd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
	const writeFd = openSync(path, constants.O_WRONLY);
	unlinkSync(path);
	return { path, readFd, writeFd };
}

/** The task reads, the host writes (non-blocking). */
export function openForInput(path: string): OpenPipe {
	// Opening a FIFO for both never blocks on Linux, and lets each end be opened without waiting for the other.
	const both = openSync(path, constants.O_RDWR);
	const readFd = openSync(path, constants.O_RDONLY);
	const writeFd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
	closeSync(both);
	unlinkSync(path);
	return { path, readFd, writeFd };
}

export class FifoPool {
	readonly #folder: string;
	readonly #free: string[] = [];
	#made = 0;
	#refilling: Promise<void> | undefined;

	/** `folder` must be an absolute path without symbolic links. What it holds from an earlier host is removed. */
	constructor(folder: string) {
		this.#folder = folder;
		rmSync(folder, { recursive: true, force: true });
		mkdirSync(folder, { mode: 0o700 });
	}

	/** Paths of `count` new FIFOs, to be opened once each. Rejects when they can't be made. */
	async take(count: number): Promise<readonly string[]> {
		while (this.#free.length < count) {
			this.#refilling ??= this.#refill();
			await this.#refilling;
		}
		const taken = this.#free.splice(-count);
		if (this.#free.length < REFILL_BELOW) {
			this.#refilling ??= this.#refill();
			// A failure in the background is met again, and reported, by the next one who has to wait.
			this.#refilling.catch(() => undefined);
		}
		return taken;
	}

	#refill(): Promise<void> {
		const paths = Array.from({ length: BATCH }, (_, index) => join(this.#folder, String(this.#made + index)));
		this.#made += BATCH;
		return new Promise((resolve, reject) => {
			execFile('mkfifo', ['-m', MODE, ...paths], { env: { PATH: '/usr/bin:/bin' } }, (error) => {
				this.#refilling = undefined;
				if (error !== null) return reject(error);
				this.#free.push(...paths);
				resolve();
			});
		});
	}
}
