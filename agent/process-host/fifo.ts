/**
 * Pipes for tasks. Node makes socket pairs for a child's output, and a task that opens /dev/stdout or /dev/stderr by
 * name then gets ENXIO, as many scripts do; a FIFO is a true pipe. `mkfifo` makes a batch of them at once, so a task
 * costs no process of its own. A FIFO is unlinked when it is opened, yet /proc/<pid>/fd still shows its path: whoever
 * holds a file of this folder belongs to a task of this host, which is how `reap` knows its processes without doubt.
 */
import { execFile } from 'node:child_process';
import {
	closeSync,
	constants,
	lstatSync,
	mkdirSync,
	mkdtempSync,
	openSync,
	readdirSync,
	readlinkSync,
	rmSync,
	symlinkSync,
	unlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { isSameProcess, type ProcessIdentity } from '../../kit/process-identity.ts';
import { fifoName } from './state.ts';

/** A batch is a process; a quarter of it left is time enough for the next. */
const BATCH = 256;
const REFILL_BELOW = 64;
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

/** Memory, on every Linux, writable for every user. */
const MEMORY_FOLDER = '/dev/shm';

/**
 * Where the FIFOs of the host of `directory` are. A folder in memory, behind a link in the directory, because ext4 looks
 * past every inode that was freed within five seconds before it gives one out (measured: 0.6 ms a task at 90 a second,
 * and more the faster they come); in the directory itself where there is none.
 */
export function fifoFolderOf(directory: string): string {
	const link = join(directory, fifoName);
	try {
		return readlinkSync(link);
	} catch {
		return link;
	}
}

/** Of folders in memory, with pid namespace and process of the host: what a dead one left is removed by the next. */
const NAME = /^gpuaas-fifo-(\d+)-(\d+)-(\d+)-/;

function pidNamespace(): string {
	return /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '0';
}

/** Removes the folder of an earlier host and makes an empty one; its absolute path, without symbolic links. */
export function makeFifoFolder(directory: string, self: ProcessIdentity, memoryFolder = MEMORY_FOLDER): string {
	const link = join(directory, fifoName);
	removeFifoFolder(directory);
	let folder: string;
	try {
		removeAbandoned(memoryFolder, self.bootId);
		// A name that nobody can take before us, 0700.
		folder = mkdtempSync(join(memoryFolder, `gpuaas-fifo-${pidNamespace()}-${self.pid}-${self.startTimeTicks}-`));
	} catch {
		mkdirSync(link, { mode: 0o700 });
		return link;
	}
	symlinkSync(folder, link);
	return folder;
}

export function removeFifoFolder(directory: string): void {
	rmSync(fifoFolderOf(directory), { recursive: true, force: true });
	rmSync(join(directory, fifoName), { recursive: true, force: true });
}

/** Of hosts whose directory is gone too. Everybody may make a folder with such a name; only our own private ones go. */
function removeAbandoned(memoryFolder: string, bootId: string): void {
	const ours = pidNamespace();
	for (const name of readdirSync(memoryFolder)) {
		const [, namespace, pid, startTimeTicks] = NAME.exec(name) ?? [];
		// Whether a process of another container lives can't be seen from here.
		if (namespace !== ours) continue;
		if (isSameProcess({ pid: Number(pid), startTimeTicks: Number(startTimeTicks), bootId })) continue;
		const folder = join(memoryFolder, name);
		try {
			if (isOurs(folder)) rmSync(folder, { recursive: true, force: true });
		} catch {
			// Another host of ours removes it at the same time.
		}
	}
}

/** As `mkdtemp` made it. Nobody else can put another in its place: the folder in memory is sticky. */
function isOurs(path: string): boolean {
	const found = lstatSync(path, { throwIfNoEntry: false });
	if (found === undefined || !found.isDirectory()) return false;
	return found.uid === process.getuid?.() && (found.mode & 0o7777) === 0o700;
}

export class FifoPool {
	readonly #folder: string;
	readonly #free: string[] = [];
	#made = 0;
	#refilling: Promise<void> | undefined;

	/** `folder` is empty, private to this user, and an absolute path without symbolic links. */
	constructor(folder: string) {
		this.#folder = folder;
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
