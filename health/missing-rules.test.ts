import { expect, it } from 'vitest';
import { DEFAULT_POLICY } from './default-policy.ts';
import { missingRules } from './missing-rules.ts';

it('names what the policy that ships has a rule for and this one only a more general one, or none', () => {
	expect(missingRules(DEFAULT_POLICY)).toEqual([]);
	const before = DEFAULT_POLICY.facts.filter(({ check }) => check !== 'disk.hung' && check !== 'driver.mismatch');
	expect(missingRules({ facts: before })).toEqual(['driver.mismatch', 'disk.hung']);
	// By what it is about, whatever it is called.
	const renamed = DEFAULT_POLICY.facts.map((rule) => ({ ...rule, check: `my.${rule.check}` }));
	expect(missingRules({ facts: renamed })).toEqual([]);
});
