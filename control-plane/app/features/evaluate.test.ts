import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { FeatureRow } from '../../store/port/features.ts';
import { evaluate } from './evaluate.ts';

const rule = (scope: string, percentage: number): FeatureRow => ({
	name: 'quota-warnings',
	scope,
	organization: '',
	percentage,
	reason: '',
	changedAtMs: 0,
	changedBy: '',
	version: 1,
});
const asked = (key = 'acme', scopes = ['organizations/acme', 'platform']) => ({ scopes, key });

test('the nearest rule counts, and without one the default of the program', () => {
	const rules = [rule('platform', 100), rule('organizations/acme', 0), rule('organizations/rival', 100)];
	expect(evaluate(rules, 'quota-warnings', asked()).on).toBe(false);
	expect(evaluate(rules, 'quota-warnings', asked('other', ['organizations/other', 'platform'])).on).toBe(true);
	expect(evaluate([], 'quota-warnings', asked())).toEqual({ on: false, rule: undefined });
});

test('raising a percentage turns nobody off, and the same key always gets the same answer', () => {
	fc.assert(
		fc.property(fc.string(), fc.integer({ min: 0, max: 100 }), fc.integer({ min: 0, max: 100 }), (key, a, b) => {
			const [low, high] = a < b ? [a, b] : [b, a];
			const on = (percentage: number) => evaluate([rule('platform', percentage)], 'quota-warnings', asked(key)).on;
			expect(on(low) && !on(high)).toBe(false);
			expect(on(0)).toBe(false);
			expect(on(100)).toBe(true);
			expect(on(a)).toBe(on(a));
		}),
	);
});

test('about as many are on as was asked for', () => {
	const keys = Array.from({ length: 10_000 }, (_, index) => `organizations/org-${index}`);
	const on = keys.filter((key) => evaluate([rule('platform', 30)], 'quota-warnings', asked(key)).on).length;
	// Of a fair hash: 3000, give or take five times its deviation of 46.
	expect(Math.abs(on - 3000)).toBeLessThan(230);
});
