import type { Policy, RateRule } from './policy.ts';

/**
 * Counters and load of one thing, from sample to sample. A counter is compared with where its window began; one that
 * went down began anew (reset, or at its end) within that window: at least what it shows now was counted. Load is unbroken while each sample says so and nothing that is watched is
 * missing: what can't be seen is not clean.
 */
interface Baseline {
	readonly value: number;
	readonly atMs: number;
}

export interface Risen {
	readonly rule: RateRule;
	readonly by: number;
	readonly withinMs: number;
}

const LOAD_KEYS = ['utilisation.gpu', 'gpm.graphics'];

/** A fleet has a hundred thousand of these: what is the same for all of a kind is made once. */
const RULES = new WeakMap<Policy, Map<string, readonly RateRule[]>>();

function rulesOf(policy: Policy, part: string): readonly RateRule[] {
	const byPart = RULES.get(policy) ?? new Map<string, readonly RateRule[]>();
	RULES.set(policy, byPart);
	const rules = byPart.get(part) ?? policy.rates.filter((rule) => rule.part === part);
	byPart.set(part, rules);
	return rules;
}

export class Rates {
	readonly #policy: Policy;
	readonly #rules: readonly RateRule[];
	#baselines: Map<string, Baseline> | undefined;
	#loadSinceMs: number | undefined;

	constructor(policy: Policy, part: string) {
		this.#policy = policy;
		this.#rules = rulesOf(policy, part);
	}

	/** Under load without a break since then; undefined: not now. */
	get loadSinceMs(): number | undefined {
		return this.#loadSinceMs;
	}

	/** Returns the counters that rose too much. `isFirst`: nothing was heard for so long that nothing goes on. */
	take(values: Readonly<Record<string, number>>, atMs: number, isFirst: boolean): readonly Risen[] {
		const risen: Risen[] = [];
		let isComplete = true;
		for (const rule of this.#rules) {
			const value = values[rule.key] ?? Number.NaN;
			let baseline = this.#baselines?.get(rule.check);
			if (Number.isNaN(value)) {
				isComplete &&= baseline === undefined;
				continue;
			}
			if (baseline !== undefined && value < baseline.value) {
				baseline = { value: 0, atMs: baseline.atMs };
				this.#baselines?.set(rule.check, baseline);
			}
			const withinMs = atMs - (baseline?.atMs ?? atMs);
			const by = value - (baseline?.value ?? value);
			const isRisen = by > rule.max * Math.max(1, withinMs / rule.windowMs);
			if (isRisen) risen.push({ rule, by, withinMs });
			if (baseline === undefined || isRisen || withinMs >= rule.windowMs) {
				this.#baselines ??= new Map();
				this.#baselines.set(rule.check, { value, atMs });
			}
		}
		const load = LOAD_KEYS.map((key) => values[key] ?? Number.NaN).find((value) => !Number.isNaN(value)) ?? 0;
		if (!isComplete || load < this.#policy.thresholds.loadRatio) this.#loadSinceMs = undefined;
		else if (isFirst || this.#loadSinceMs === undefined) this.#loadSinceMs = atMs;
		return risen;
	}
}
