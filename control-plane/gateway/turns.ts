/** A line for each key, which take turns: whoever has much in line delays themselves. */
export class Turns<T> {
	readonly #lines = new Map<string, Set<T>>();
	#length = 0;

	get length(): number {
		return this.#length;
	}

	lengthOf(key: string): number {
		return this.#lines.get(key)?.size ?? 0;
	}

	add(key: string, one: T): void {
		const line = this.#lines.get(key);
		if (line === undefined) this.#lines.set(key, new Set([one]));
		else line.add(one);
		this.#length += 1;
	}

	/** Whether it was in line. */
	delete(key: string, one: T): boolean {
		const line = this.#lines.get(key);
		if (line?.delete(one) !== true) return false;
		this.#length -= 1;
		if (line.size === 0) this.#lines.delete(key);
		return true;
	}

	/** Whose turn it is. Stays in line until `take`. */
	next(): readonly [key: string, one: T] | undefined {
		for (const [key, [one]] of this.#lines) if (one !== undefined) return [key, one];
		return undefined;
	}

	/** Its key goes to the end of the round. */
	take(key: string, one: T): void {
		const line = this.#lines.get(key);
		this.delete(key, one);
		if (line === undefined || line.size === 0) return;
		this.#lines.delete(key);
		this.#lines.set(key, line);
	}

	/** The newest of the longest line. */
	excess(): readonly [key: string, one: T] | undefined {
		let found: readonly [string, ReadonlySet<T>] | undefined;
		for (const entry of this.#lines) if (entry[1].size > (found?.[1].size ?? 0)) found = entry;
		return found && [found[0], [...found[1]].at(-1) as T];
	}

	*[Symbol.iterator](): Generator<T, void, void> {
		for (const line of this.#lines.values()) yield* line;
	}
}
