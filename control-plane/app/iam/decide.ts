import type { ActorKind, Assurance } from '../../context.ts';
import type { Visibility } from '../../store/port/scopes.ts';
import type { Access } from './access.ts';
import { isSteppedUp } from './assurance.ts';
import { holds, type PermissionSet, permissionBit } from './permissions.ts';
import { isGuarded, type Place } from './place.ts';

/**
 * The authorization core: pure, synchronous, no I/O, no loop over bindings. Gates run in order and the first that fails
 * names the reason: authn -> tenant -> lifecycle -> guardrail -> binding -> credential -> assurance.
 *
 * Invariants, each a property test: default deny; forbid overrides; adding a binding never removes access; an object
 * that the caller may not get is answered exactly as one that doesn't exist, whatever the gate; access by a key is the
 * principal's AND the key's; list equals filter(get), because `visibilityOf` reads the same compiled bindings.
 * Called by app/iam/target inside the unit, by the API's interceptor for an early refusal, and by Explain.
 */
export interface Subject {
	readonly kind: ActorKind;
	readonly access: Access;
	readonly limit: CompiledLimit;
	readonly assurance?: Assurance;
}

/** What a credential holds its bearer to, compiled; undefined: no limit. */
export interface CompiledLimit {
	readonly permissions: PermissionSet | undefined;
	/** Path of the scope outside of which it counts for nothing. */
	readonly path: string | undefined;
}

export const UNLIMITED: CompiledLimit = Object.freeze({ permissions: undefined, path: undefined });

export interface Question {
	/** False for methods that anybody may call. */
	readonly authenticated: boolean;
	/** `permissionBit`; undefined: every authenticated principal, about itself. */
	readonly permission: number | undefined;
	/** Whether the method changes nothing: a suspended scope can still be looked at. */
	readonly reads: boolean;
	readonly stepUp: boolean;
	readonly target: TargetScope;
	readonly nowMs: number;
}

/** Where the thing asked about stands. */
export type TargetScope =
	/** `place` is the platform's own, for its guardrails; undefined where the store was not asked yet. */
	| { readonly kind: 'platform'; readonly place: Place | undefined }
	| { readonly kind: 'self' }
	/** A list: its rows are filtered by `visibilityOf`. */
	| { readonly kind: 'any' }
	/** `place` is that of its project or scope; the platform's own where no project has it. */
	| { readonly kind: 'object'; readonly get: number; readonly place: Place }
	/** There is no such object. */
	| { readonly kind: 'missing' };

export type Gate = 'authn' | 'tenant' | 'lifecycle' | 'guardrail' | 'binding' | 'credential' | 'assurance';

export type Denial =
	| 'UNAUTHENTICATED'
	| 'NOT_FOUND'
	| 'SCOPE_SUSPENDED'
	| 'GUARDRAIL_FORBIDS'
	| 'PERMISSION_DENIED'
	| 'CREDENTIAL_SCOPE_EXCEEDED'
	| 'STEP_UP_REQUIRED';

export type Decision =
	/** `plane`: whether a platform role or a role in the object's tenant gave it. */
	| { readonly allowed: true; readonly plane: Plane }
	| { readonly allowed: false; readonly gate: Gate; readonly reason: Denial };

export type Plane = 'platform' | 'tenant' | 'self';

const SELF: Decision = Object.freeze({ allowed: true, plane: 'self' });
const PLATFORM: Decision = Object.freeze({ allowed: true, plane: 'platform' });
const TENANT: Decision = Object.freeze({ allowed: true, plane: 'tenant' });
const UNAUTHENTICATED = denied('authn', 'UNAUTHENTICATED');
const NOT_FOUND = denied('tenant', 'NOT_FOUND');
const SUSPENDED = denied('lifecycle', 'SCOPE_SUSPENDED');
const FORBIDDEN = denied('guardrail', 'GUARDRAIL_FORBIDS');
const NO_BINDING = denied('binding', 'PERMISSION_DENIED');
const EXCEEDED = denied('credential', 'CREDENTIAL_SCOPE_EXCEEDED');
const NOT_STEPPED_UP = denied('assurance', 'STEP_UP_REQUIRED');

/** Ends a suspension or a deletion: what is asked is whether the scopes above allow it. */
const RESUME = permissionBit('scopes.resume');

export function decide(subject: Subject, question: Question): Decision {
	const { target, permission } = question;
	if (!question.authenticated) return SELF;
	if (!isGuarded(subject.kind)) return UNAUTHENTICATED;
	if (target.kind === 'missing') return NOT_FOUND;
	if (permission === undefined) {
		if (target.kind !== 'self') return NO_BINDING;
		return question.stepUp && !isSteppedUp(subject, question.nowMs) ? NOT_STEPPED_UP : SELF;
	}
	if (target.kind === 'any' || target.kind === 'self') return decideList(subject, permission, question);
	const { place } = target;
	if (target.kind === 'object' && target.get !== permission && !mayGet(subject, target.get, place)) return NOT_FOUND;
	const found = decideAt(subject, permission, place, question.reads);
	if (!found.allowed) return target.kind === 'object' && target.get === permission ? NOT_FOUND : found;
	return question.stepUp && !isSteppedUp(subject, question.nowMs) ? NOT_STEPPED_UP : found;
}

function mayGet(subject: Subject, get: number, place: Place | undefined): boolean {
	return decideAt(subject, get, place, true).allowed;
}

/** The gates from lifecycle to credential, for one permission at one place. */
function decideAt(subject: Subject, permission: number, place: Place | undefined, reads: boolean): Decision {
	const { access, limit } = subject;
	const isPlatform = holds(access.platform, permission);
	if (place !== undefined) {
		if (!isPlatform) {
			const state = permission === RESUME ? place.stateAbove : place.state;
			if (place.state === 'deleted') return NOT_FOUND;
			if (state !== 'active' && !reads) return SUSPENDED;
		}
		if (isGuarded(subject.kind) && holds(place.forbidden[subject.kind], permission)) return FORBIDDEN;
	}
	if (!isPlatform && !heldAt(access, permission, place)) return NO_BINDING;
	if (limit.permissions !== undefined && !holds(limit.permissions, permission)) return EXCEEDED;
	if (limit.path !== undefined && place?.ancestors.includes(limit.path) !== true) return EXCEEDED;
	return isPlatform ? PLATFORM : TENANT;
}

/** Whether a tenant role at the place or above it gives the permission. */
export function heldAt(access: Access, permission: number, place: Place | undefined): boolean {
	if (place === undefined) return false;
	for (const path of place.ancestors) {
		const set = access.at.get(path);
		if (set !== undefined && holds(set, permission)) return true;
	}
	return false;
}

/** Whether there is anything at all that a list could hold; its rows are a matter of `visibilityOf`. */
function decideList(subject: Subject, permission: number, question: Question): Decision {
	const { access, limit } = subject;
	const isPlatform = holds(access.platform, permission);
	if (!isPlatform && ![...access.at.values()].some((set) => holds(set, permission))) return NO_BINDING;
	if (limit.permissions !== undefined && !holds(limit.permissions, permission)) return EXCEEDED;
	if (question.stepUp && !isSteppedUp(subject, question.nowMs)) return NOT_STEPPED_UP;
	return isPlatform ? PLATFORM : TENANT;
}

/** Which rows somebody sees in a list; `denials` are the paths of the guardrails that forbid them the permission. */
export function visibilityOf(subject: Subject, permission: number, denials: readonly string[]): Visibility {
	const { access, limit } = subject;
	if (limit.permissions !== undefined && !holds(limit.permissions, permission)) return NOTHING;
	const isPlatform = holds(access.platform, permission);
	if (isPlatform && limit.path === undefined && denials.length === 0) return { all: true };
	const held = [...access.at].filter(([, set]) => holds(set, permission)).map(([path]) => path);
	const grants = within(isPlatform ? ['/'] : held, limit.path);
	// What no project has stands at the platform itself.
	const unowned = grants.includes('/') && !denials.includes('/');
	return { all: false, unowned, deleted: isPlatform, grants, denials };
}

const NOTHING: Visibility = Object.freeze({ all: false, unowned: false, deleted: false, grants: [], denials: [] });

/** What is below one of `paths` and below `limit`. */
function within(paths: readonly string[], limit: string | undefined): readonly string[] {
	if (limit === undefined) return paths;
	if (paths.some((path) => limit.startsWith(path))) return [limit];
	return paths.filter((path) => path.startsWith(limit));
}

function denied(gate: Gate, reason: Denial): Decision {
	return Object.freeze({ allowed: false, gate, reason });
}
