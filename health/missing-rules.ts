import { DEFAULT_POLICY } from './default-policy.ts';
import type { PolicyDocument } from './policy.ts';

/**
 * Checks that the policy that ships has for a code of its own and this one has no rule for, as one that was written for the
 * version before. Such facts fall to its rule for the whole kind, which may never hear that they are over, or to none.
 */
export function missingRules({ facts }: Pick<PolicyDocument, 'facts'>): readonly string[] {
	const known = new Set(facts.map(codeOf));
	const missing = DEFAULT_POLICY.facts.filter((rule) => rule.code !== undefined && !known.has(codeOf(rule)));
	return [...new Set(missing.map(({ check }) => check))];
}

function codeOf({ fact, code = '' }: PolicyDocument['facts'][number]): string {
	return `${fact} ${code}`;
}
