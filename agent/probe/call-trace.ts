import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { CALLS, type CallName } from './calls.ts';

/**
 * Which call the probe is in, for whoever waits for it: written before each call to a few bytes of a file, because a
 * process that hangs in the driver can tell nothing any more. It costs a write to the page cache (1-2 us) a call. It is
 * evidence and no condition: on a disk that is full or read-only the driver is asked all the same.
 */
export interface CallTrace {
	enter(name: CallName): void;
}

const NAMES = Object.keys(CALLS) as CallName[];
const NUMBERS: ReadonlyMap<string, number> = new Map(NAMES.map((name, index) => [name, index + 1]));

export class FileTrace implements CallTrace, Disposable {
	readonly #fd: number | undefined;
	readonly #bytes = Buffer.alloc(4);
	#gpu = 0;

	constructor(path: string) {
		this.#fd = tried(() => openSync(path, 'w', 0o600));
	}

	/** The GPU that is asked, by its number at this boot; 255: none. */
	set gpu(index: number) {
		this.#gpu = index;
	}

	enter(name: CallName): void {
		this.#bytes.writeUInt16LE(NUMBERS.get(name) ?? 0, 0);
		this.#bytes.writeUInt16LE(this.#gpu, 2);
		const fd = this.#fd;
		if (fd !== undefined) tried(() => writeSync(fd, this.#bytes, 0, 4, 0));
	}

	[Symbol.dispose](): void {
		if (this.#fd !== undefined) closeSync(this.#fd);
	}
}

function tried(work: () => number): number | undefined {
	try {
		return work();
	} catch {
		return undefined;
	}
}

/** `nvmlDeviceGetTemperature (GPU 3)`; undefined when nothing was written. */
export function readTrace(path: string): string | undefined {
	try {
		const bytes = readFileSync(path);
		const name = NAMES[bytes.readUInt16LE(0) - 1];
		const gpu = bytes.readUInt16LE(2);
		return name === undefined ? undefined : gpu === NO_GPU ? name : `${name} (GPU ${gpu})`;
	} catch {
		return undefined;
	}
}

export const NO_GPU = 0xffff;
