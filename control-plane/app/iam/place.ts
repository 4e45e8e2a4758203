import type { ActorKind } from '../../context.ts';
import type { GuardrailRow } from '../../store/port/access.ts';
import type { ScopeRow, ScopeState } from '../../store/port/scopes.ts';
import { matching, NO_PERMISSIONS, type PermissionSet, union } from './permissions.ts';

/** Where an object stands in the tree, with all that its ancestors say about it. As of one policy epoch. */
export interface Place {
	/** Name of the scope. */
	readonly name: string;
	readonly path: string;
	/** Id; empty for the platform. */
	readonly organization: string;
	/** Paths from the platform down to itself. */
	readonly ancestors: readonly string[];
	readonly state: ScopeState;
	/** The worst state of the scopes above. */
	readonly stateAbove: ScopeState;
	/** What guardrails at or above forbid, by kind of principal. */
	readonly forbidden: Readonly<Record<GuardedKind, PermissionSet>>;
}

export type GuardedKind = 'user' | 'service_account' | 'operator';
const GUARDED_KINDS: readonly GuardedKind[] = ['user', 'service_account', 'operator'];
const SEVERITY: readonly ScopeState[] = ['active', 'suspended', 'locked', 'deleting', 'deleted'];

/** `/`, `/acme/`, `/acme/d.research/`, `/acme/d.research/p.train/`. */
export function ancestorsOf(path: string): readonly string[] {
	const paths: string[] = [];
	for (let at = path.indexOf('/'); at !== -1; at = path.indexOf('/', at + 1)) paths.push(path.slice(0, at + 1));
	return paths;
}

/** `chain` holds the scope itself and all above it, in any order. */
export function placeOf(scope: ScopeRow, chain: readonly ScopeRow[], guardrails: readonly GuardrailRow[]): Place {
	const above = chain.filter(({ name }) => name !== scope.name);
	const names = new Set(chain.map(({ name }) => name));
	const rules = guardrails.filter((rule) => names.has(rule.scope));
	return Object.freeze({
		name: scope.name,
		path: scope.path,
		organization: scope.organization,
		ancestors: ancestorsOf(scope.path),
		state: worst([scope, ...above]),
		stateAbove: worst(above),
		forbidden: forbiddenBy(rules),
	});
}

export function forbiddenBy(rules: readonly GuardrailRow[]): Place['forbidden'] {
	const byKind = GUARDED_KINDS.map((kind) => [kind, forbiddenTo(rules, kind)] as const);
	return Object.fromEntries(byKind) as Record<GuardedKind, PermissionSet>;
}

function forbiddenTo(rules: readonly GuardrailRow[], kind: GuardedKind): PermissionSet {
	return rules
		.filter((rule) => rule.principalKinds.length === 0 || rule.principalKinds.includes(kind))
		.reduce((set, rule) => union(set, matching(rule.permissions)), NO_PERMISSIONS);
}

export function isGuarded(kind: ActorKind): kind is GuardedKind {
	return kind === 'user' || kind === 'service_account' || kind === 'operator';
}

function worst(scopes: readonly Pick<ScopeRow, 'state'>[]): ScopeState {
	return scopes.reduce<ScopeState>(
		(found, { state }) => (SEVERITY.indexOf(state) > SEVERITY.indexOf(found) ? state : found),
		'active',
	);
}
