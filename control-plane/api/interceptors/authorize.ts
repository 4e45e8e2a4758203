import type { Interceptor } from '@connectrpc/connect';
import type { Clock } from '../../../kit/clock.ts';
import { Caller } from '../../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import { decide } from '../../app/iam/decide.ts';
import type { CheckedPolicy } from '../../app/iam/method-policy.ts';
import { refusal } from '../../app/iam/target.ts';
import { type CallState, stateOf } from '../call-state.ts';

/**
 * The early refusal: what can be decided without a row, before the store is asked for anything. The decision that
 * counts is taken again in the snapshot or unit (app/iam/target), so this link can only refuse sooner, never allow.
 */
export function createEarlyRefusal(clock: Pick<Clock, 'now'>): Interceptor {
	return (next) => async (request) => {
		const state = stateOf({ values: request.contextValues });
		// A stream's first message has not been read yet; who it is and what roles they hold is known.
		if (state.method !== undefined) refuseEarly(state, state.method.policy, clock.now());
		return await next(request);
	};
}

function refuseEarly({ actor, approvalId }: CallState, policy: CheckedPolicy, nowMs: number): void {
	const { target } = policy;
	// Whether an object may be seen depends on its row; until then only the authn gate can be asked.
	const isObject = target !== 'platform' && target !== 'self' && target !== 'any';
	const decision = decide(actor, {
		authenticated: policy.caller !== Caller.ANYONE,
		permission: isObject ? undefined : policy.permissionBit,
		reads: policy.reads,
		// An approval may stand in for it, which takes the store to know.
		stepUp: isObject || approvalId !== undefined ? false : policy.stepUp,
		target:
			target === 'platform' ? { kind: 'platform', place: undefined } : { kind: target === 'any' ? 'any' : 'self' },
		nowMs,
	});
	if (!decision.allowed) throw refusal(decision.reason, policy);
}
