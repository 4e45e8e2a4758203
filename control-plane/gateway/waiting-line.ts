import { Turns } from './turns.ts';

/** Where somebody comes from: their address, and whom it is counted with (address-group.ts). */
export interface Origin {
	readonly group: string;
	readonly address: string;
}

/**
 * Who waits for a handshake. Groups of addresses take turns, and so do the addresses of a group: nobody is delayed by how
 * much a neighbour has in line. When all lines together are full, the longest group gives up a place to one that has fewer,
 * and the longest address of a group to its neighbour: the newest place.
 */
export class WaitingLine<T> {
	readonly #groups = new Map<string, Turns<T>>();
	readonly #lengthMax: number;
	#length = 0;

	constructor(lengthMax: number) {
		this.#lengthMax = lengthMax;
	}

	get length(): number {
		return this.#length;
	}

	/** Who has to leave for it: `one` itself where its own line is among the longest. */
	add({ group, address }: Origin, one: T): T | undefined {
		let leaves: T | undefined;
		if (this.#length >= this.#lengthMax) {
			const from = this.#givesWay({ group, address });
			if (from === undefined) return one;
			leaves = from[1];
			this.delete(...from);
		}
		const turns = this.#groups.get(group) ?? new Turns<T>();
		this.#groups.set(group, turns);
		turns.add(address, one);
		this.#length += 1;
		return leaves;
	}

	delete({ group, address }: Origin, one: T): void {
		const turns = this.#groups.get(group);
		if (turns?.delete(address, one) !== true) return;
		this.#length -= 1;
		if (turns.length === 0) this.#groups.delete(group);
	}

	/** Whose turn it is, of groups that `mayGo`. Stays in line until `take`. */
	next(mayGo: (group: string) => boolean): readonly [origin: Origin, one: T] | undefined {
		for (const [group, turns] of this.#groups) {
			const next = mayGo(group) ? turns.next() : undefined;
			if (next !== undefined) return [{ group, address: next[0] }, next[1]];
		}
		return undefined;
	}

	/** Its group, and its address in there, go to the end of their round. */
	take({ group, address }: Origin, one: T): void {
		const turns = this.#groups.get(group);
		const before = turns?.length ?? 0;
		turns?.take(address, one);
		if (turns === undefined || turns.length === before) return;
		this.#length -= 1;
		this.#groups.delete(group);
		if (turns.length > 0) this.#groups.set(group, turns);
	}

	*[Symbol.iterator](): Generator<T, void, void> {
		for (const turns of this.#groups.values()) yield* turns;
	}

	#givesWay({ group, address }: Origin): readonly [Origin, T] | undefined {
		const own = this.#groups.get(group);
		let longest: readonly [string, Turns<T>] | undefined;
		for (const entry of this.#groups) if (entry[1].length > (longest?.[1].length ?? 0)) longest = entry;
		if (longest !== undefined && longest[1].length > (own?.length ?? 0) + 1) {
			const excess = longest[1].excess();
			return excess && [{ group: longest[0], address: excess[0] }, excess[1]];
		}
		const excess = own?.excess();
		if (own === undefined || excess === undefined) return undefined;
		return own.lengthOf(excess[0]) > own.lengthOf(address) + 1 ? [{ group, address: excess[0] }, excess[1]] : undefined;
	}
}
