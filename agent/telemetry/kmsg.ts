import { closeSync, constants, openSync, readSync } from 'node:fs';

/**
 * The kernel's log, read without waiting: an empty look takes microseconds, and it can't hang, whatever the driver does.
 * Only records of facility 0 are the kernel's own: everybody who may write to /dev/kmsg can make the others. Never a read
 * stream: a read that waits would hold one of Node's four file threads for ever.
 */
export interface KmsgRecord {
	readonly sequence: number;
	/** Microseconds since boot, on the kernel's clock. */
	readonly atUs: number;
	readonly text: string;
}

export type KmsgLook = {
	readonly records: readonly KmsgRecord[];
	/** Records were overwritten before they were read. */
	readonly isLost: boolean;
	/** There was no record more; else the next look goes on. */
	readonly isAtEnd: boolean;
};

const RECORD_BYTES_MAX = 16_384;
/** A look ends there, so that a flood doesn't hold the event loop; the next one goes on. 1,000 take 10 ms. */
const RECORDS_MAX = 1000;
const FACILITY_SHIFT = 3;

export class Kmsg implements Disposable {
	readonly #fd: number;
	readonly #buffer = Buffer.alloc(RECORD_BYTES_MAX);

	/** Starts at the oldest record that the kernel still has. Throws what `open` throws: EPERM, EACCES, ENOENT. */
	constructor(path = '/dev/kmsg') {
		this.#fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
	}

	look(): KmsgLook {
		const records: KmsgRecord[] = [];
		let isLost = false;
		let isAtEnd = false;
		for (let count = 0; count < RECORDS_MAX; count += 1) {
			let length: number;
			try {
				length = readSync(this.#fd, this.#buffer, 0, RECORD_BYTES_MAX, null);
			} catch (error) {
				const { code } = error as NodeJS.ErrnoException;
				if (code === 'EAGAIN') {
					isAtEnd = true;
					break;
				}
				// EPIPE: the reader was overtaken and stands at the oldest record now. EINVAL: a record longer than ours.
				if (code !== 'EPIPE' && code !== 'EINVAL') throw error;
				isLost = true;
				continue;
			}
			if (length === 0) {
				isAtEnd = true;
				break;
			}
			for (const line of this.#buffer.toString('utf8', 0, length).split('\n')) {
				const record = parseRecord(line);
				if (record !== undefined) records.push(record);
			}
		}
		return { records, isLost, isAtEnd };
	}

	[Symbol.dispose](): void {
		closeSync(this.#fd);
	}
}

/** `6,1234,5678901,-;text` (Documentation/ABI/testing/dev-kmsg). Undefined: not the kernel's own, or a continuation. */
export function parseRecord(line: string): KmsgRecord | undefined {
	const match = /^(\d+),(\d+),(\d+),[^;]*;(.*)$/.exec(line);
	if (match === null || Number(match[1]) >> FACILITY_SHIFT !== 0) return undefined;
	return { sequence: Number(match[2]), atUs: Number(match[3]), text: match[4] ?? '' };
}
