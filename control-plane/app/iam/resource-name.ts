/**
 * Names of resources: a scope, or something that stands at one. `platform`, `organizations/acme`,
 * `organizations/acme/departments/research`, `organizations/acme/projects/train`, and `<scope>/<collection>/<id>`.
 */
const RESOURCE =
	/^(platform|organizations\/[a-z0-9][a-z0-9-]{0,62}(?:\/(?:departments|projects)\/[a-z0-9][a-z0-9-]{0,62})?)(?:\/([a-z][A-Za-z]{2,30})\/([A-Za-z0-9-]{1,64}))?$/;

export const COLLECTIONS = [
	'bindings',
	'entitlements',
	'groups',
	'guardrails',
	'invitations',
	'keys',
	'members',
	'roles',
	'serviceAccounts',
] as const;
export type Collection = (typeof COLLECTIONS)[number];

export interface ResourceName {
	readonly scope: string;
	readonly collection: Collection | undefined;
	/** Empty without a collection. */
	readonly id: string;
}

/** Undefined for a text that can name nothing. */
export function parseResourceName(text: string): ResourceName | undefined {
	const [, scope, collection, id] = RESOURCE.exec(text) ?? [];
	if (scope === undefined) return undefined;
	if (collection === undefined || id === undefined) return { scope, collection: undefined, id: '' };
	const known = COLLECTIONS.find((name) => name === collection);
	return known === undefined ? undefined : { scope, collection: known, id };
}

export function projectName({
	organization,
	project,
}: {
	readonly organization: string;
	readonly project: string;
}): string {
	return `organizations/${organization}/projects/${project}`;
}
