import { createHash } from 'node:crypto';
import type { FeatureRow } from '../../store/port/features.ts';
import { FEATURES, type FeatureName } from './catalogue.ts';
import type { FeatureAsker } from './gates.ts';

export interface Evaluated {
	readonly on: boolean;
	/** The rule that decided; undefined: the program's own default. */
	readonly rule: FeatureRow | undefined;
}

/** Pure. Raising a percentage turns nobody off who was on. */
export function evaluate(rules: readonly FeatureRow[], name: FeatureName, { scopes, key }: FeatureAsker): Evaluated {
	for (const scope of scopes) {
		const rule = rules.find((row) => row.name === name && row.scope === scope);
		if (rule !== undefined) return { on: bucketOf(name, key) < rule.percentage, rule };
	}
	return { on: FEATURES[name].defaultOn, rule: undefined };
}

/** 0 up to 100, even over keys, and of each feature another: else the same few would always be the first. */
function bucketOf(name: string, key: string): number {
	return (createHash('sha256').update(`${name}\n${key}`).digest().readUInt32BE(0) / 2 ** 32) * 100;
}
