import type { Interceptor } from '@connectrpc/connect';
import { Caller } from '../../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import { decide } from '../../app/iam/decide.ts';
import type { CheckedPolicy } from '../../app/iam/method-policy.ts';
import type { PrincipalActor } from '../../app/iam/principal.ts';
import { refusal } from '../../app/iam/target.ts';
import { stateOf } from '../call-state.ts';

/**
 * The early refusal: what can be decided without a row, before the store is asked for anything. The decision that
 * counts is taken again in the snapshot or unit (app/iam/target), so this link can only refuse sooner, never allow.
 */
export const authorizeEarly: Interceptor = (next) => async (request) => {
	const state = stateOf({ values: request.contextValues });
	// A stream's first message has not been read yet; who it is and what roles they hold is known.
	if (state.method !== undefined) refuseEarly(state.actor, state.method.policy);
	return await next(request);
};

function refuseEarly(actor: PrincipalActor, policy: CheckedPolicy): void {
	const { target } = policy;
	// Whether an object may be seen depends on its row; until then only the authn gate can be asked.
	const isObject = target === 'node' || target === 'task' || target === 'operation';
	const decision = decide(actor, {
		authenticated: policy.caller !== Caller.ANYONE,
		permission: isObject ? '' : policy.permission,
		stepUp: isObject ? false : policy.stepUp,
		target: { kind: isObject ? 'self' : target },
	});
	if (!decision.allowed) throw refusal(decision.reason, policy);
}
