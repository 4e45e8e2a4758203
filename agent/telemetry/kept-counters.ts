import type { Logger } from '../../kit/log.ts';

/**
 * What counters showed when that became a fact, kept over restarts of the agent: errors of years ago are no news at each
 * start, and would open again what somebody has looked into. `ever`: it outlives the machine's boots (a disk's own);
 * `boot`: the kernel counts from its start on.
 */
export type CounterSpan = 'ever' | 'boot';

export interface KeptCountersOptions {
	readonly bootId: string;
	readonly log: Logger;
	/** In the journal. */
	readonly kept: { readonly get: () => string | undefined; readonly put: (value: string) => void };
}

interface Counted {
	readonly value: number;
	/** Empty: of every boot. */
	readonly boot: string;
}

/** More than a host has; past it the oldest are forgotten, and told once more. */
const COUNTERS_MAX = 2048;

export class KeptCounters {
	readonly #options: KeptCountersOptions;
	readonly #counted: Map<string, Counted>;

	constructor(options: KeptCountersOptions) {
		this.#options = options;
		this.#counted = countedOf(options.kept.get());
	}

	/** Undefined: nothing of it became a fact yet. */
	get(name: string, span: CounterSpan): number | undefined {
		const counted = this.#counted.get(name);
		return counted?.boot === this.#bootOf(span) ? counted.value : undefined;
	}

	put(name: string, span: CounterSpan, value: number): void {
		if (this.get(name, span) === value) return;
		this.#counted.delete(name);
		this.#counted.set(name, { value, boot: this.#bootOf(span) });
		for (const oldest of this.#counted.keys()) {
			if (this.#counted.size <= COUNTERS_MAX) break;
			this.#counted.delete(oldest);
		}
		try {
			this.#options.kept.put(JSON.stringify([...this.#counted]));
		} catch (error) {
			this.#options.log.error('a counter was not kept: the next start of the agent tells it again', { name, error });
		}
	}

	#bootOf(span: CounterSpan): string {
		return span === 'ever' ? '' : this.#options.bootId;
	}
}

function countedOf(kept: string | undefined): Map<string, Counted> {
	try {
		const entries: unknown = JSON.parse(kept ?? '[]');
		return new Map(Array.isArray(entries) ? entries.filter(isCounted) : []);
	} catch {
		return new Map();
	}
}

function isCounted(entry: unknown): entry is [string, Counted] {
	if (!Array.isArray(entry) || typeof entry[0] !== 'string') return false;
	const { value, boot } = (entry[1] ?? {}) as Partial<Counted>;
	return typeof value === 'number' && typeof boot === 'string';
}
