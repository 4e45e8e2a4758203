import type { HealthObservation } from './observation.ts';
import type { FactRule, Outcome, Policy } from './policy.ts';

/** The rules for facts, found by kind: the most specific that fits. */
export class Rules {
	readonly #byFact = new Map<string, readonly FactRule[]>();
	readonly #ends = new Map<string, readonly string[]>();

	constructor({ facts }: Policy) {
		for (const fact of new Set(facts.map((rule) => rule.fact)))
			this.#byFact.set(
				fact,
				facts.filter((rule) => rule.fact === fact).toSorted((left, right) => specificity(right) - specificity(left)),
			);
		for (const { fact, endedBy = [] } of facts)
			for (const end of endedBy) this.#ends.set(end, [...new Set([...(this.#ends.get(end) ?? []), fact])]);
	}

	find(observation: HealthObservation): FactRule | undefined {
		const { fact, code, after } = observation;
		return this.#byFact
			.get(fact)
			?.find(
				(rule) =>
					(rule.code === undefined || rule.code === code) &&
					(rule.after === undefined || rule.after.includes(after)) &&
					(rule.atLeast === undefined || after >= rule.atLeast) &&
					(rule.expected === undefined || after < expectedOf(rule.expected, observation)),
			);
	}

	/** It says that what the same kind and code opened is over. */
	isWell(observation: HealthObservation): boolean {
		const { fact, code, after } = observation;
		const rules = (this.#byFact.get(fact) ?? []).filter((rule) => rule.code === undefined || rule.code === code);
		return rules.some(
			({ well, expected }) =>
				well?.includes(after) === true || (expected !== undefined && after >= expectedOf(expected, observation)),
		);
	}

	/** Kinds of fact that this kind ends. */
	endedBy(fact: string): readonly string[] {
		return this.#ends.get(fact) ?? [];
	}
}

const RULES = new WeakMap<Policy, Rules>();

/** Made once a policy: a fleet has a ledger a node. */
export function rulesOf(policy: Policy): Rules {
	const rules = RULES.get(policy) ?? new Rules(policy);
	RULES.set(policy, rules);
	return rules;
}

/** The policy itself says how much it should be: what the line says of its measure is of no matter. */
export function isExpected({ expected = {} }: FactRule, code: string): boolean {
	return Object.keys(expected).some((pattern) => isLike(pattern, code));
}

function expectedOf(expected: NonNullable<FactRule['expected']>, { code, before }: HealthObservation): number {
	const fitting = Object.keys(expected).filter((pattern) => isLike(pattern, code));
	const closest = fitting.toSorted((left, right) => textOf(right) - textOf(left))[0];
	return closest === undefined ? before : (expected[closest] ?? before);
}

const textOf = (pattern: string) => pattern.replaceAll('*', '').length;

/** `*`: any text. */
function isLike(pattern: string, text: string): boolean {
	const [first = '', ...rest] = pattern.split('*');
	const last = rest.pop();
	if (last === undefined) return text === pattern;
	if (!text.startsWith(first) || !text.endsWith(last) || text.length < first.length + last.length) return false;
	let from = first.length;
	for (const middle of rest) {
		const found = text.indexOf(middle, from);
		if (found === -1) return false;
		from = found + middle.length;
	}
	return from <= text.length - last.length;
}

/** What it is where the line itself says that it isn't fatal, or before it came often enough. */
export function asNote(rule: Outcome): Outcome {
	return { state: 'HEALTHY', severity: 'info', actions: ['NONE'], clears: rule.clears };
}

export function specificity({ code, after, atLeast, expected }: FactRule): number {
	const isMeasured = atLeast !== undefined || expected !== undefined;
	return (after === undefined ? 0 : 4) + (isMeasured ? 2 : 0) + (code === undefined ? 0 : 1);
}
