import type { Message } from '@bufbuild/protobuf';
import { assert } from '../../../kit/assert.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { isUuid } from '../../../kit/ids.ts';
import { Caller } from '../../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import type { AssignmentRow } from '../../store/port/assignments.ts';
import type { NodeRow, NodeVisibility } from '../../store/port/nodes.ts';
import type { OperationRow } from '../../store/port/operations.ts';
import type { Tx } from '../../store/port/store.ts';
import type { TaskRow } from '../../store/port/tasks.ts';
import type { Plan } from '../../store/port/unit.ts';
import { decide, type TargetScope, visibilityOf } from './decide.ts';
import type { CheckedPolicy, TargetKind } from './method-policy.ts';
import { type CallContext, loadCredential, type PrincipalActor, unusable } from './principal.ts';

/**
 * From a method's policy and a request to the rows that it is about and the decision on them, inside the caller's own
 * snapshot or unit: what is decided is what is read or changed.
 */
export interface TargetOf {
	readonly platform: { readonly kind: 'platform' };
	readonly self: { readonly kind: 'self' };
	readonly any: { readonly kind: 'any'; readonly visibility: NodeVisibility };
	readonly node: {
		readonly kind: 'node';
		readonly node: NodeRow;
		/** The open one. */
		readonly assignment: AssignmentRow | undefined;
	};
	readonly task: { readonly kind: 'task'; readonly task: TaskRow };
	readonly operation: { readonly kind: 'operation'; readonly operation: OperationRow };
}

export type Target = TargetOf[TargetKind];

/** Throws UNAUTHENTICATED, NOT_FOUND, PERMISSION_DENIED. */
export function* authorizedTarget(
	tx: Tx,
	ctx: CallContext,
	policy: CheckedPolicy,
	request: Message,
	nowMs: number,
): Plan<Target> {
	const actor = yield* freshActor(tx, ctx.actor, nowMs);
	const target = yield* findTarget(tx, actor, policy, request);
	const decision = decide(actor, {
		authenticated: policy.caller !== Caller.ANYONE,
		permission: policy.permission,
		stepUp: policy.stepUp,
		target: target === undefined ? { kind: 'missing' } : scopeOf(target),
	});
	if (!decision.allowed) throw refusal(decision.reason, policy);
	assert(target !== undefined, 'a decision never allows what is missing');
	return target;
}

/** The bindings of now: whatever was revoked or bound since the request was authenticated counts. */
function* freshActor(tx: Tx, actor: PrincipalActor, nowMs: number): Plan<PrincipalActor> {
	if (actor.credentialId === '') return actor;
	if ((yield* tx.identities.policyEpoch()) === actor.policyEpoch) return actor;
	const loaded = yield* loadCredential(tx, actor.credentialId, nowMs);
	if (loaded === undefined || unusable(loaded, nowMs) !== undefined) {
		throw new GpuaasError({
			code: 'UNAUTHENTICATED',
			reason: 'UNAUTHENTICATED',
			message: 'the credential was withdrawn while the request was running; ask for a new one',
		});
	}
	return loaded.actor;
}

function* findTarget(tx: Tx, actor: PrincipalActor, policy: CheckedPolicy, request: Message): Plan<Target | undefined> {
	switch (policy.target) {
		case 'platform':
			return { kind: 'platform' };
		case 'self':
			return { kind: 'self' };
		case 'any':
			return { kind: 'any', visibility: visibilityOf(actor, policy.permission) };
		case 'node': {
			const node = yield* findNode(tx, nameIn(request, policy));
			return node === undefined
				? undefined
				: { kind: 'node', node, assignment: yield* tx.assignments.openOfNode(node.id) };
		}
		case 'task': {
			const id = nameIn(request, policy);
			const task = isUuid(id) ? yield* tx.tasks.get(id) : undefined;
			return task === undefined ? undefined : { kind: 'task', task };
		}
		case 'operation': {
			const id = nameIn(request, policy);
			const operation = isUuid(id) ? yield* tx.operations.get(id) : undefined;
			return operation === undefined ? undefined : { kind: 'operation', operation };
		}
	}
}

/** By id, else by name. A name that looks like an id can't be given (join tokens allow no UUIDs to shadow). */
export function* findNode(tx: Tx, reference: string): Plan<NodeRow | undefined> {
	return isUuid(reference) ? yield* tx.nodes.get(reference) : yield* tx.nodes.getByName(reference);
}

function scopeOf(target: Target): TargetScope {
	switch (target.kind) {
		case 'node':
			return { kind: 'object', getPermission: 'nodes.get', project: target.assignment ?? null };
		case 'task': {
			const { organization, project } = target.task;
			const owner = organization === null || project === null ? null : { organization, project };
			return { kind: 'object', getPermission: 'tasks.get', project: owner };
		}
		case 'operation':
			return { kind: 'object', getPermission: 'operations.get', project: null };
		default:
			return { kind: target.kind };
	}
}

/** What the request calls its target; empty for methods without one. For audit, bounded. */
export function targetName(policy: CheckedPolicy, request: Message): string {
	if (policy.targetField === '') return policy.target === 'platform' ? 'platform' : '';
	return `${policy.target}s/${nameIn(request, policy).slice(0, 64)}`;
}

function nameIn(request: Message, policy: CheckedPolicy): string {
	const value: unknown = Reflect.get(request, policy.targetField);
	assert(typeof value === 'string', `${policy.name}: scope_field must be a string`);
	return value;
}

type RefusalReason = 'UNAUTHENTICATED' | 'NOT_FOUND' | 'PERMISSION_DENIED' | 'STEP_UP_REQUIRED';

/** One text each, and no id in it: an object of another tenant must read exactly as one that doesn't exist. */
export function refusal(reason: RefusalReason, policy: CheckedPolicy): GpuaasError {
	switch (reason) {
		case 'UNAUTHENTICATED':
			return new GpuaasError({
				code: 'UNAUTHENTICATED',
				reason,
				message: 'this call needs a credential; send `Authorization: Bearer <API key>`, or log in with the CLI',
			});
		case 'NOT_FOUND':
			return new GpuaasError({
				code: 'NOT_FOUND',
				reason: NOT_FOUND_REASON[policy.target] ?? 'NOT_FOUND',
				message: `there is no such ${policy.target}, or you may not see it; list the ${policy.target}s that you can see`,
			});
		case 'PERMISSION_DENIED':
			return new GpuaasError({
				code: 'PERMISSION_DENIED',
				reason,
				message: `you lack the permission ${policy.permission} here; ask an operator for a role that holds it`,
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

const NOT_FOUND_REASON: Readonly<Partial<Record<TargetKind, string>>> = {
	node: 'NODE_NOT_FOUND',
	task: 'TASK_NOT_FOUND',
	operation: 'OPERATION_NOT_FOUND',
};
