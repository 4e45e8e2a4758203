import { type Clock, yieldTurn } from './clock.ts';

/**
 * Lets others have their turns during work that would hold the loop: whoever does it asks after each piece, and goes on
 * in the next turn once its slice is over. A store in this process answers without a turn, so awaiting it doesn't help.
 */
export class Slices {
	readonly #clock: Clock;
	readonly #sliceMs: number;
	#endsMs: number;

	constructor(clock: Clock, sliceMs: number) {
		this.#clock = clock;
		this.#sliceMs = sliceMs;
		this.#endsMs = clock.monotonic() + sliceMs;
	}

	/** Time to await `next`. */
	get isOver(): boolean {
		return this.#clock.monotonic() >= this.#endsMs;
	}

	async next(): Promise<void> {
		await yieldTurn(this.#clock);
		this.#endsMs = this.#clock.monotonic() + this.#sliceMs;
	}
}
