import { GpuaasError } from '../../../kit/error.ts';
import { Caller } from '../../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { Decision, Question, TargetScope } from '../iam/decide.ts';
import { type CheckedPolicy, policyNamed } from '../iam/method-policy.ts';
import type { Place } from '../iam/place.ts';
import type { PolicyView } from '../iam/policy-view.ts';
import type { PrincipalActor } from '../iam/principal.ts';
import { findTarget, type Target } from '../iam/target.ts';

/** A call that somebody asks about: what it needs, and where its object stands. */
export interface AskedAbout {
	readonly policy: CheckedPolicy;
	readonly target: TargetScope;
	/** Undefined when there is no such object, or none is asked for. */
	readonly place: Place | undefined;
	/** The rows that the call is about, once it is allowed. */
	resolve(decision: Decision & { readonly allowed: true }): Target | undefined;
}

/** `resource` is `nodes/NAME`, `tasks/ID` or a resource name. Throws METHOD_UNKNOWN. */
export function* askedAbout(
	tx: Tx,
	view: PolicyView,
	subject: PrincipalActor,
	asked: { readonly method: string; readonly resource: string },
): Plan<AskedAbout> {
	const policy = askedMethod(asked.method);
	const id = policy.target === 'scope' ? asked.resource : asked.resource.replace(/^[a-z]+\//, '');
	const found = yield* findTarget(tx, view, subject, policy, id);
	const target = found?.at ?? { kind: 'missing' };
	const place = target.kind === 'object' || target.kind === 'platform' ? target.place : undefined;
	return { policy, target, place, resolve: (decision) => found?.target(decision) };
}

/** Throws METHOD_UNKNOWN. */
export function askedMethod(method: string): CheckedPolicy {
	const policy = policyNamed(method);
	if (policy === undefined) throw unknownMethod(method);
	return policy;
}

export function questionOf({ policy, target }: AskedAbout, nowMs: number): Question {
	return {
		authenticated: policy.caller !== Caller.ANYONE,
		permission: policy.permissionBit,
		reads: policy.reads,
		stepUp: policy.stepUp,
		target,
		nowMs,
	};
}

function unknownMethod(method: string): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'METHOD_UNKNOWN',
		message: `there is no method ${JSON.stringify(method.slice(0, 64))}, or several end so; write it as tasks.v1.TaskService/CreateTask`,
	});
}
