import type { Rng } from '../../../kit/ids.ts';

/**
 * Everything that a run decides comes from here: sfc32 (Doty-Humphrey), seeded by name, so that a new draw in one part
 * of the world doesn't shift the draws of the others. Good enough to schedule faults with, never for keys of anybody.
 */
export class SeededRng implements Rng {
	readonly #seed: string;
	#a: number;
	#b: number;
	#c: number;
	#counter = 1;

	constructor(seed: string) {
		this.#seed = seed;
		let state = 0x811c9dc5;
		for (let index = 0; index < seed.length; index += 1) {
			state = Math.imul(state ^ seed.charCodeAt(index), 0x01000193);
		}
		const next = () => {
			state = (state + 0x9e3779b9) | 0;
			let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
			mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
			return mixed ^ (mixed >>> 15);
		};
		this.#a = next();
		this.#b = next();
		this.#c = next();
		for (let round = 0; round < 12; round += 1) this.#next();
	}

	/** An independent stream of draws. */
	fork(name: string): SeededRng {
		return new SeededRng(`${this.#seed}/${name}`);
	}

	bytes(length: number): Uint8Array {
		const bytes = new Uint8Array(length);
		for (let index = 0; index < length; index += 1) bytes[index] = this.#next() >>> 24;
		return bytes;
	}

	float(): number {
		return this.#next() / 0x1_0000_0000;
	}

	/** Uniform in [low, high]. */
	int(low: number, high: number): number {
		return low + Math.floor(this.float() * (high - low + 1));
	}

	chance(probability: number): boolean {
		return this.float() < probability;
	}

	pick<T>(items: readonly T[]): T {
		const item = items[this.int(0, items.length - 1)];
		if (item === undefined) throw new Error('nothing to pick from');
		return item;
	}

	#next(): number {
		const sum = (this.#a + this.#b + this.#counter) | 0;
		this.#counter = (this.#counter + 1) | 0;
		this.#a = this.#b ^ (this.#b >>> 9);
		this.#b = (this.#c + (this.#c << 3)) | 0;
		this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
		this.#c |= 0;
		return sum >>> 0;
	}
}
