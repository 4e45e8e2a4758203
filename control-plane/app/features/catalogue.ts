/** A feature that is rolled out by steps. Who may do what is never one: roles, guardrails and entitlements decide that. */
export interface FeatureSpec {
	readonly summary: string;
	/** Where nothing is set. When the rules can't be read every feature is off. */
	readonly defaultOn: boolean;
}

/** Every feature of this program; a name is never used again for something else. */
export const FEATURES = Object.freeze({
	'quota-warnings': {
		summary: 'Record in the audit log that an organization has used four fifths of a limit',
		defaultOn: false,
	},
} as const satisfies Readonly<Record<string, FeatureSpec>>);

export type FeatureName = keyof typeof FEATURES;

export function isFeature(name: string): name is FeatureName {
	return Object.hasOwn(FEATURES, name);
}
