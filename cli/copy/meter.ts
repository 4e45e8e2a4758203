import { basename } from 'node:path';
import type { CopyProgress } from '../../channel/copy-sender.ts';
import { type Io, printable } from '../io.ts';
import { StatusLine } from '../status-line.ts';

/** What a copy has done: one line that changes on a terminal, and the sums. */
export interface CopySums {
	readonly files: number;
	/** Sent or received now: not what was there already. */
	readonly bytes: number;
	readonly unchanged: number;
	readonly skipped: readonly string[];
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

export class CopyMeter {
	readonly #io: Io;
	readonly #line: StatusLine;
	readonly #startMs: number;
	#files = 0;
	#bytes = 0;
	#unchanged = 0;
	readonly #skipped: string[] = [];
	#path = '';
	#lastBytes = 0;

	constructor(io: Io, isQuiet: boolean) {
		this.#io = io;
		this.#line = new StatusLine(io, isQuiet);
		this.#startMs = io.clock.monotonic();
	}

	readonly take = (progress: CopyProgress): void => {
		const { path, bytes, size, state } = progress;
		if (state === 'skipped') {
			this.#skipped.push(progress.message ?? path);
			return;
		}
		if (path !== this.#path) {
			this.#path = path;
			// What an earlier run left counts for the percentage, not for the speed.
			this.#lastBytes = bytes;
		}
		this.#bytes += Math.max(0, bytes - this.#lastBytes);
		this.#lastBytes = bytes;
		if (state === 'unchanged') this.#unchanged += 1;
		if (state === 'done') this.#files += 1;
		this.#draw(path, bytes, size, state !== 'copying');
	};

	sums(): CopySums {
		return { files: this.#files, bytes: this.#bytes, unchanged: this.#unchanged, skipped: this.#skipped };
	}

	/** Leaves the line as it is and goes below. */
	finish(): Promise<void> {
		return this.#line.finish();
	}

	#draw(path: string, bytes: number, size: number, isWhole: boolean): void {
		this.#line.show(() => {
			const percent = size === 0 ? 100 : Math.floor((bytes / size) * 100);
			const perSecond = this.#bytes / Math.max(0.001, (this.#io.clock.monotonic() - this.#startMs) / 1000);
			return `${printable(basename(path)).slice(0, 40).padEnd(40)} ${String(percent).padStart(3)} %  ${sizeText(bytes).padStart(9)}  ${sizeText(perSecond)}/s`;
		}, isWhole);
	}
}

export function sizeText(bytes: number): string {
	let value = bytes;
	let unit = 0;
	while (value >= 1000 && unit < UNITS.length - 1) {
		value /= 1000;
		unit += 1;
	}
	return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}
