/** Which boot of the node is the current one, and which ids are of earlier ones: facts come late, by the journal. */
const OLD_BOOTS_MAX = 32;

export interface SavedBoots {
	readonly current: string;
	readonly sinceMs: number | null;
	readonly old: readonly string[];
	readonly isTold?: boolean;
}

export class Boots {
	#current = '';
	#isTold = false;
	#sinceMs = Number.NEGATIVE_INFINITY;
	/** Once a session told: only such as one told, so that each was the current one and never is again. */
	readonly #old = new Set<string>();

	get current(): string {
		return this.#current;
	}

	/**
	 * `new`: the node has booted since the last that was heard of. `first`: nothing to compare with. Where a session told
	 * which boot it is, any other that a fact names was before: clocks of hosts that just booted are not believed. Without
	 * sessions, in a record, the order of times has to do; and it makes no boot old for ever.
	 */
	take(bootId: string, observedAtMs: number): 'same' | 'first' | 'new' | 'old' {
		if (bootId === '' || bootId === this.#current) return 'same';
		if (this.#isTold || this.#old.has(bootId) || observedAtMs < this.#sinceMs) return 'old';
		return this.#begin(bootId, observedAtMs);
	}

	/**
	 * A session or a sample of the node says so, now. One that is known to be over is told by whoever has not heard of the
	 * next yet: ids never come again.
	 */
	tell(bootId: string, atMs: number): 'same' | 'first' | 'new' {
		if (bootId === '' || (this.#isTold && this.#old.has(bootId))) return 'same';
		const begun = bootId === this.#current ? 'same' : this.#begin(bootId, atMs);
		if (!this.#isTold) this.#old.clear();
		this.#isTold = true;
		return begun;
	}

	#begin(bootId: string, observedAtMs: number): 'first' | 'new' {
		const isFirst = this.#current === '';
		if (!isFirst) this.#remember(this.#current);
		this.#current = bootId;
		this.#sinceMs = observedAtMs;
		return isFirst ? 'first' : 'new';
	}

	save(): SavedBoots {
		return { current: this.#current, sinceMs: this.#sinceMs, old: [...this.#old], isTold: this.#isTold };
	}

	static restore({ current, sinceMs, old, isTold = false }: SavedBoots): Boots {
		const boots = new Boots();
		boots.#current = current;
		boots.#isTold = isTold;
		// JSON has no -Infinity: null is "before all time".
		boots.#sinceMs = sinceMs ?? Number.NEGATIVE_INFINITY;
		for (const id of old) boots.#old.add(id);
		return boots;
	}

	#remember(bootId: string): void {
		this.#old.add(bootId);
		for (const oldest of this.#old) {
			if (this.#old.size <= OLD_BOOTS_MAX) return;
			this.#old.delete(oldest);
		}
	}
}
