import type { Actor, RoleBinding } from '../../context.ts';
import type { NodeVisibility, ProjectRef } from '../../store/port/nodes.ts';
import { ROLES } from './roles.ts';

/**
 * The authorization core: pure, synchronous, no I/O. Gates run in order and the first that fails names the reason:
 * authn -> tenant -> binding -> assurance. Invariants, each tested: default deny; adding a binding never removes
 * access; an object of another tenant is answered exactly as one that doesn't exist; list equals filter(get), because
 * both come from `visibilityOf`'s bindings. Called by app/use-case inside the unit, and by the API's interceptor for
 * an early refusal where no row is needed.
 *
 * Tenant roles are honoured at project scope only; bindings at an organization wait for organizations as rows.
 */
export interface Question {
	/** False for methods that anybody may call. */
	readonly authenticated: boolean;
	/** Empty: every authenticated principal, about itself. */
	readonly permission: string;
	readonly stepUp: boolean;
	readonly target: TargetScope;
}

/** Where the thing asked about stands. */
export type TargetScope =
	| { readonly kind: 'platform' }
	| { readonly kind: 'self' }
	/** A list: its rows are filtered by `visibilityOf`. */
	| { readonly kind: 'any' }
	/** `project` is that of the assignment; null when only the platform has it. */
	| { readonly kind: 'object'; readonly getPermission: string; readonly project: ProjectRef | null }
	/** There is no such object. */
	| { readonly kind: 'missing' };

export type Gate = 'authn' | 'tenant' | 'binding' | 'assurance';

export type Decision =
	/** `plane`: whether a platform role or a role in the object's project gave it. */
	| { readonly allowed: true; readonly plane: 'platform' | 'tenant' | 'self' }
	| {
			readonly allowed: false;
			readonly gate: Gate;
			readonly reason: 'UNAUTHENTICATED' | 'NOT_FOUND' | 'PERMISSION_DENIED' | 'STEP_UP_REQUIRED';
	  };

type AccessActor = Pick<Actor, 'kind' | 'bindings'>;

export function decide(actor: AccessActor, question: Question): Decision {
	const { target, permission } = question;
	if (!question.authenticated) return { allowed: true, plane: 'self' };
	if (!isPrincipal(actor)) return { allowed: false, gate: 'authn', reason: 'UNAUTHENTICATED' };
	if (target.kind === 'missing') return { allowed: false, gate: 'tenant', reason: 'NOT_FOUND' };
	if (target.kind === 'self' && permission === '') return { allowed: true, plane: 'self' };
	if (target.kind === 'object' && planeOf(actor, target.getPermission, target) === undefined)
		return { allowed: false, gate: 'tenant', reason: 'NOT_FOUND' };
	const plane = planeOf(actor, permission, target);
	if (plane === undefined) return { allowed: false, gate: 'binding', reason: 'PERMISSION_DENIED' };
	if (question.stepUp && !isSteppedUp(actor)) return { allowed: false, gate: 'assurance', reason: 'STEP_UP_REQUIRED' };
	return { allowed: true, plane };
}

/** Which rows a holder of `permission` sees in a list. */
export function visibilityOf(actor: AccessActor, permission: string): NodeVisibility {
	const projects: ProjectRef[] = [];
	for (const binding of actor.bindings) {
		if (holdsAtPlatform(binding, permission)) return { all: true };
		const project = projectOf(binding);
		if (project !== undefined && ROLES[binding.role]?.permissions.has(permission) === true) projects.push(project);
	}
	return { all: false, projects };
}

/** Whether the actor holds `permission` in exactly this project by a tenant role. */
export function holdsInProject(actor: AccessActor, permission: string, project: ProjectRef): boolean {
	const visibility = visibilityOf({ ...actor, bindings: actor.bindings.filter(isTenantBinding) }, permission);
	return !visibility.all && visibility.projects.some((held) => same(held, project));
}

function planeOf(actor: AccessActor, permission: string, target: TargetScope): 'platform' | 'tenant' | undefined {
	if (actor.bindings.some((binding) => holdsAtPlatform(binding, permission))) return 'platform';
	if (target.kind === 'any') {
		const visibility = visibilityOf(actor, permission);
		return visibility.all || visibility.projects.length > 0 ? 'tenant' : undefined;
	}
	if (target.kind !== 'object' || target.project === null) return undefined;
	return holdsInProject(actor, permission, target.project) ? 'tenant' : undefined;
}

function isPrincipal(actor: AccessActor): boolean {
	return actor.kind === 'operator' || actor.kind === 'user' || actor.kind === 'service_account';
}

/**
 * The seam for RFC 9470. Until people log in with an identity provider, only the bootstrap operator's key counts as
 * stepped up: it was read from a file of mode 0600 on the control plane's own host, and it dies at the first owner's
 * login. Service accounts can never step up; users will by `acr` and `auth_time`.
 */
function isSteppedUp(actor: AccessActor): boolean {
	return actor.kind === 'operator';
}

function holdsAtPlatform(binding: RoleBinding, permission: string): boolean {
	const role = ROLES[binding.role];
	return binding.scope === 'platform' && role?.plane === 'platform' && role.permissions.has(permission);
}

function isTenantBinding(binding: RoleBinding): boolean {
	return ROLES[binding.role]?.plane === 'tenant';
}

const PROJECT_SCOPE = /^organizations\/([a-z0-9][a-z0-9-]{0,62})\/projects\/([a-z0-9][a-z0-9-]{0,62})$/;

function projectOf(binding: RoleBinding): ProjectRef | undefined {
	const match = isTenantBinding(binding) ? PROJECT_SCOPE.exec(binding.scope) : null;
	const [, organization, project] = match ?? [];
	return organization === undefined || project === undefined ? undefined : { organization, project };
}

function same(left: ProjectRef, right: ProjectRef): boolean {
	return left.organization === right.organization && left.project === right.project;
}
