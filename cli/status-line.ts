import type { Clock } from '../kit/clock.ts';
import { type Io, write } from './io.ts';

const REDRAW_MS = 200;

/** One line on standard error that says how far long work is: on a terminal only, so that no log is full of it. */
export class StatusLine {
	readonly #io: Pick<Io, 'stderr'>;
	readonly #clock: Clock;
	readonly #isShown: boolean;
	#drawnAtMs = Number.NEGATIVE_INFINITY;
	#isDrawn = false;

	constructor(io: Pick<Io, 'stderr' | 'clock'>, isQuiet: boolean) {
		this.#io = io;
		this.#clock = io.clock;
		this.#isShown = io.stderr.isTTY === true && !isQuiet;
	}

	/** `isDue`: at once, however short it is since the last one. */
	show(text: () => string, isDue = false): void {
		const nowMs = this.#clock.monotonic();
		if (!this.#isShown || (!isDue && nowMs - this.#drawnAtMs < REDRAW_MS)) return;
		this.#drawnAtMs = nowMs;
		this.#isDrawn = true;
		void write(this.#io.stderr, `\r\u001b[K${text()}`);
	}

	/** Leaves the line as it is and goes below. */
	async finish(): Promise<void> {
		if (this.#isDrawn) await write(this.#io.stderr, '\n');
		this.#isDrawn = false;
	}
}
