import type { Message } from '@bufbuild/protobuf';
import { assert, present } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { isUuid } from '../../../kit/ids.ts';
import { Caller } from '../../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import type { AssignmentRow } from '../../store/port/assignments.ts';
import type { NodeRow, ProjectRef } from '../../store/port/nodes.ts';
import type { OperationRow } from '../../store/port/operations.ts';
import type { RecordingRow } from '../../store/port/recordings.ts';
import type { ScopeRow, Visibility } from '../../store/port/scopes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { TaskRow } from '../../store/port/tasks.ts';
import type { TerminalRow } from '../../store/port/terminals.ts';
import type { Plan } from '../../store/port/unit.ts';
import { type Decision, type Denial, decide, heldAt, type TargetScope, visibilityOf } from './decide.ts';
import { freshActor } from './fresh-actor.ts';
import type { CheckedPolicy, TargetKind } from './method-policy.ts';
import { permissionBit } from './permissions.ts';
import { isGuarded, type Place } from './place.ts';
import type { PolicyView } from './policy-view.ts';
import type { CallContext, PrincipalActor } from './principal.ts';
import { type Collection, parseResourceName, projectName } from './resource-name.ts';

/**
 * From a method's policy and a request to the rows that it is about and the decision on them, inside the caller's own
 * snapshot or unit: what is decided is what is read or changed.
 */
export interface TargetOf {
	readonly platform: { readonly kind: 'platform' };
	readonly self: { readonly kind: 'self' };
	readonly any: { readonly kind: 'any'; readonly visibility: Visibility };
	readonly node: {
		readonly kind: 'node';
		readonly node: NodeRow;
		/** The open one; of several (slices) the one that the caller may see. */
		readonly assignment: AssignmentRow | undefined;
		/** Whether a role in the assignment's own project gives the caller the method's permission. */
		readonly isHolder: boolean;
	};
	readonly task: { readonly kind: 'task'; readonly task: TaskRow };
	readonly operation: { readonly kind: 'operation'; readonly operation: OperationRow };
	readonly recording: { readonly kind: 'recording'; readonly recording: RecordingRow };
	readonly terminal: { readonly kind: 'terminal'; readonly terminal: TerminalRow };
	readonly scope: {
		readonly kind: 'scope';
		readonly scope: ScopeRow;
		readonly place: Place;
		/** What of the scope is named, if not the scope itself; whether it is there is for the use case to find. */
		readonly collection: Collection | undefined;
		readonly id: string;
		/** Which kind of role gave it. */
		readonly plane: 'platform' | 'tenant';
	};
}

export type Target = TargetOf[TargetKind];

/** Throws UNAUTHENTICATED, NOT_FOUND, PERMISSION_DENIED. */
export function* authorizedTarget(
	tx: Tx,
	view: PolicyView,
	ctx: CallContext,
	policy: CheckedPolicy,
	request: Message,
	nowMs: number,
	/** Stands in for a step-up; throws when it doesn't. Of mutations whose caller names an approval. */
	approved?: (tx: Tx) => Plan<void>,
): Plan<Target> {
	const actor = yield* freshActor(tx, view, ctx.actor, nowMs);
	const found = yield* findTarget(tx, view, actor, policy, policy.targetField === '' ? '' : nameIn(request, policy));
	const question = {
		authenticated: policy.caller !== Caller.ANYONE,
		permission: policy.permissionBit,
		reads: policy.reads,
		stepUp: policy.stepUp,
		target: found?.at ?? ({ kind: 'missing' } as const),
		nowMs,
	};
	let decision = decide(actor, question);
	if (!decision.allowed && decision.reason === 'STEP_UP_REQUIRED' && approved !== undefined) {
		yield* approved(tx);
		decision = decide(actor, { ...question, stepUp: false });
	}
	// Whoever may see the object may know whose it is: then a refusal is that organization's matter, and of no other.
	if ((decision.allowed || decision.reason !== 'NOT_FOUND') && found?.at.kind === 'object' && ctx.about !== undefined)
		ctx.about.organization = found.at.place.organization;
	if (!decision.allowed) throw refusal(decision.reason, policy);
	assert(found !== undefined, 'a decision never allows what is missing');
	return found.target(decision);
}

/** Where what a request is about stands; undefined for what stands nowhere. */
export function* placeAsked(
	tx: Tx,
	view: PolicyView,
	actor: PrincipalActor,
	policy: CheckedPolicy,
	request: Message,
): Plan<Place | undefined> {
	const name = policy.targetField === '' ? '' : nameIn(request, policy);
	const at = (yield* findTarget(tx, view, actor, policy, name))?.at;
	return at?.kind === 'object' || at?.kind === 'platform' ? at.place : undefined;
}

interface Found {
	readonly at: TargetScope;
	target(decision: Decision & { readonly allowed: true }): Target;
}

/** What of this kind has this name, and where it stands; undefined when there is none. Also for Explain and WhoCan. */
export function* findTarget(
	tx: Tx,
	view: PolicyView,
	actor: PrincipalActor,
	policy: CheckedPolicy,
	id: string,
): Plan<Found | undefined> {
	switch (policy.target) {
		case 'platform':
			return { at: { kind: 'platform', place: yield* platformPlace(tx, view) }, target: () => ({ kind: 'platform' }) };
		case 'self':
			return { at: { kind: 'self' }, target: () => ({ kind: 'self' }) };
		case 'any': {
			const visibility = yield* visibilityIn(tx, view, actor, policy);
			return { at: { kind: 'any' }, target: () => ({ kind: 'any', visibility }) };
		}
		case 'node':
			return yield* findNodeTarget(tx, view, actor, policy, id);
		case 'task': {
			const task = isUuid(id) ? yield* tx.tasks.get(id) : undefined;
			if (task === undefined) return undefined;
			return { at: yield* inProject(tx, view, 'tasks.get', task), target: () => ({ kind: 'task', task }) };
		}
		case 'operation': {
			const operation = isUuid(id) ? yield* tx.operations.get(id) : undefined;
			if (operation === undefined) return undefined;
			const at = yield* inProject(tx, view, 'operations.get', { organization: null, project: null });
			return { at, target: () => ({ kind: 'operation', operation }) };
		}
		case 'recording': {
			const recording = isUuid(id) ? yield* tx.recordings.get(id) : undefined;
			if (recording === undefined) return undefined;
			const at = yield* inProject(tx, view, 'recordings.get', recording);
			return { at, target: () => ({ kind: 'recording', recording }) };
		}
		case 'terminal': {
			const terminal = isUuid(id) ? yield* tx.terminals.get(id) : undefined;
			if (terminal === undefined) return undefined;
			return {
				at: yield* inProject(tx, view, 'terminals.get', terminal),
				target: () => ({ kind: 'terminal', terminal }),
			};
		}
		case 'scope':
			return yield* findScope(tx, view, id);
	}
}

/** Where a record stands that was made under an assignment: at the project of that, whoever holds the node now. */
export function* inProject(
	tx: Tx,
	view: PolicyView,
	get: string,
	{ organization, project }: { readonly organization: string | null; readonly project: string | null },
): Plan<TargetScope> {
	const isOwned = organization !== null && project !== null;
	const place = isOwned ? yield* view.place(tx, projectName({ organization, project })) : undefined;
	return { kind: 'object', get: permissionBit(get), place: place ?? (yield* platformPlace(tx, view)) };
}

function* platformPlace(tx: Tx, view: PolicyView): Plan<Place> {
	return present(yield* view.place(tx, 'platform'), 'the platform is the root of every tree');
}

function* findNodeTarget(
	tx: Tx,
	view: PolicyView,
	actor: PrincipalActor,
	policy: CheckedPolicy,
	reference: string,
): Plan<Found | undefined> {
	const node = yield* findNode(tx, reference);
	if (node === undefined) return undefined;
	const get = permissionBit('nodes.get');
	const open: { readonly assignment: AssignmentRow; readonly place: Place | undefined }[] = [];
	for (const assignment of yield* tx.assignments.openOfNodes([node.id]))
		open.push({ assignment, place: yield* placeOfProject(tx, view, assignment) });
	const seen = open.find(({ place }) => heldAt(actor.access, get, place)) ?? open[0];
	const isHolder = policy.permissionBit !== undefined && heldAt(actor.access, policy.permissionBit, seen?.place);
	return {
		at: { kind: 'object', get, place: seen?.place ?? (yield* platformPlace(tx, view)) },
		target: () => ({ kind: 'node', node, assignment: seen?.assignment, isHolder }),
	};
}

function* placeOfProject(tx: Tx, view: PolicyView, project: ProjectRef): Plan<Place | undefined> {
	return yield* view.place(tx, projectName(project));
}

/** By id, else by name. A name that looks like an id can't be given (join tokens allow no UUIDs to shadow). */
export function* findNode(tx: Tx, reference: string): Plan<NodeRow | undefined> {
	return isUuid(reference) ? yield* tx.nodes.get(reference) : yield* tx.nodes.getByName(reference);
}

const GET_OF: Readonly<Record<Collection, string>> = {
	bindings: 'bindings.get',
	entitlements: 'entitlements.get',
	groups: 'groups.get',
	guardrails: 'guardrails.get',
	invitations: 'invitations.get',
	keys: 'keys.get',
	members: 'members.get',
	roles: 'roles.get',
	serviceAccounts: 'serviceaccounts.get',
};

function* findScope(tx: Tx, view: PolicyView, name: string): Plan<Found | undefined> {
	const parsed = parseResourceName(name);
	if (parsed === undefined) return undefined;
	const { collection, id } = parsed;
	const scope = yield* tx.scopes.get(parsed.scope);
	const place = yield* view.place(tx, parsed.scope);
	if (scope === undefined || place === undefined) return undefined;
	const get = permissionBit(collection === undefined ? 'scopes.get' : GET_OF[collection]);
	return {
		at: { kind: 'object', get, place },
		target: ({ plane }) => {
			assert(plane !== 'self', 'a scope is nobody’s self');
			return { kind: 'scope', scope, place, collection, id, plane };
		},
	};
}

function* visibilityIn(tx: Tx, view: PolicyView, actor: PrincipalActor, policy: CheckedPolicy): Plan<Visibility> {
	assert(policy.permissionBit !== undefined, `${policy.name}: a list has a permission`);
	const denials = isGuarded(actor.kind) ? yield* view.denials(tx, actor.kind, policy.permissionBit) : [];
	return visibilityOf(actor, policy.permissionBit, denials);
}

/** What the request calls its target; empty for methods without one. For audit, bounded. */
export function targetName(policy: CheckedPolicy, request: Message): string {
	if (policy.targetField === '') return policy.target === 'platform' ? 'platform' : '';
	const name = nameIn(request, policy);
	return policy.target === 'scope' ? name.slice(0, 256) : `${policy.target}s/${name.slice(0, 64)}`;
}

function nameIn(request: Message, policy: CheckedPolicy): string {
	const value: unknown = Reflect.get(request, policy.targetField);
	assert(typeof value === 'string', `${policy.name}: scope_field must be a string`);
	return value;
}

/** One text each, and no id in it: an object of another tenant must read exactly as one that doesn't exist. */
export function refusal(reason: Denial, policy: CheckedPolicy): GpuaasError {
	switch (reason) {
		case 'UNAUTHENTICATED':
			return new GpuaasError({
				code: 'UNAUTHENTICATED',
				reason,
				message: 'this call needs a credential; send `Authorization: Bearer <API key>`, or log in with the CLI',
			});
		case 'NOT_FOUND': {
			const kind = kindIn(policy);
			return new GpuaasError({
				code: 'NOT_FOUND',
				reason: NOT_FOUND_REASON[policy.target] ?? 'NOT_FOUND',
				message: `there is no such ${kind}, or you may not see it; list the ${kind}s that you can see`,
			});
		}
		case 'PERMISSION_DENIED':
			return new GpuaasError({
				code: 'PERMISSION_DENIED',
				reason,
				message: `you lack the permission ${policy.permission} here; ask whoever gives roles here for one that holds it`,
				metadata: { permission: policy.permission },
			});
		case 'SCOPE_SUSPENDED':
			return new GpuaasError({
				code: 'PERMISSION_DENIED',
				reason,
				message:
					'the organization, department or project of this is suspended or being deleted, so it can only be looked at; whoever suspended it can resume it',
			});
		case 'GUARDRAIL_FORBIDS':
			return new GpuaasError({
				code: 'PERMISSION_DENIED',
				reason,
				message: `a guardrail at or above this forbids ${policy.permission}, whatever roles you hold; gpuaas iam explain shows which`,
				metadata: { permission: policy.permission },
			});
		case 'CREDENTIAL_SCOPE_EXCEEDED':
			return new GpuaasError({
				code: 'PERMISSION_DENIED',
				reason,
				message: `your roles hold ${policy.permission} here and the API key that you sent does not reach as far; use another key`,
				metadata: { permission: policy.permission },
			});
		case 'STEP_UP_REQUIRED':
			return new GpuaasError({
				code: 'PERMISSION_DENIED',
				reason,
				message:
					'this call needs a stepped-up login, which an API key of a user or service account is not; use the bootstrap operator key',
				metadata: { permission: policy.permission },
			});
	}
}

/** What stands at a scope and is named by its own name is decided at the scope, and called by what it is. */
const AT_A_SCOPE: Readonly<Record<string, string>> = {
	bindings: 'binding',
	groups: 'group',
	guardrails: 'guardrail',
	invitations: 'invitation',
	keys: 'key',
	roles: 'role',
	serviceaccounts: 'service account',
};

function kindIn({ target, targetField, permission }: CheckedPolicy): string {
	if (target === 'any') return 'resource';
	if (target !== 'scope' || targetField !== 'name') return target;
	return AT_A_SCOPE[permission.split('.')[0] ?? ''] ?? target;
}

const NOT_FOUND_REASON: Readonly<Partial<Record<TargetKind, string>>> = {
	node: 'NODE_NOT_FOUND',
	task: 'TASK_NOT_FOUND',
	operation: 'OPERATION_NOT_FOUND',
	recording: 'RECORDING_NOT_FOUND',
	terminal: 'TERMINAL_NOT_FOUND',
	scope: 'SCOPE_NOT_FOUND',
};
