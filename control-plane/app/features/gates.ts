import type { FeatureName } from './catalogue.ts';

/** Of whom a feature is asked. */
export interface FeatureAsker {
	/** Names of scopes, the nearest first: the first that has a rule decides, `platform` the last. */
	readonly scopes: readonly string[];
	/** What is hashed while a feature is partly on: the same key gets the same answer everywhere and always. */
	readonly key: string;
}

/** Implemented by adapters/features over the table. Never rejects: what can't be read is off. */
export interface FeatureGates {
	isOn(feature: FeatureName, asker: FeatureAsker): Promise<boolean>;
}
