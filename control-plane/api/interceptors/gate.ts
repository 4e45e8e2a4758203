import type { HandlerContext } from '@connectrpc/connect';
import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { KeyedBuckets } from '../../../kit/limits.ts';
import { Caller } from '../../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import type { Authenticator } from '../../app/iam/authenticate.ts';
import { methodName } from '../../app/iam/method-policy.ts';
import { refusal } from '../../app/iam/target.ts';
import { stateOf } from '../call-state.ts';
import { type ApiLimits, type Rate, rateOf } from '../limits.ts';
import type { ApiMethod } from '../methods.ts';
import { explainMisread } from './misread.ts';
import type { Outcome } from './outcome.ts';

/**
 * The first links of the chain, run when a request's headers are there and before a byte of its body is read:
 * correlation (made by the server) -> rate of the address -> authenticate -> rate of the principal. Strangers and
 * floods cost no memory and no parsing.
 */
export interface GateOptions {
	readonly clock: Clock;
	readonly authenticator: Authenticator;
	readonly methods: ReadonlyMap<string, ApiMethod>;
	readonly limits: ApiLimits;
	readonly outcome: Outcome;
}

export function createGate(options: GateOptions): (context: HandlerContext) => Promise<void> {
	const { clock, limits, authenticator, methods, outcome } = options;
	const perAddress = buckets(clock, limits.perAddress);
	const perPrincipal = {
		read: buckets(clock, limits.perPrincipal.read),
		write: buckets(clock, limits.perPrincipal.write),
		stream: buckets(clock, limits.perPrincipal.stream),
	};
	return async (context) => {
		const state = stateOf(context);
		state.method = methods.get(methodName(context.method));
		explainMisread(
			context,
			() => state.request !== undefined,
			(error) => outcome.misread(state, error),
		);
		try {
			refuseAbove(perAddress.take(state.peer), 'your address sends');
			state.actor = await authenticator.authenticate(context.requestHeader.get('authorization'));
			if (state.method === undefined) return;
			const { policy } = state.method;
			if (policy.caller === Caller.PRINCIPAL && state.actor.kind === 'anonymous')
				throw refusal('UNAUTHENTICATED', policy);
			const who = state.actor.id === '' ? `address ${state.peer}` : state.actor.id;
			refuseAbove(perPrincipal[rateOf(policy.rate)].take(who), 'you send');
		} catch (error) {
			throw await outcome.refuse(state, error, { signal: context.signal, timeoutMs: context.timeoutMs() });
		}
	};
}

function buckets(clock: Clock, rate: Rate): KeyedBuckets {
	return new KeyedBuckets(clock, rate.perSecond, rate.burst);
}

function refuseAbove(waitMs: number, who: string): void {
	if (waitMs === 0) return;
	throw new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'RATE_LIMITED',
		message: `${who} requests faster than this control plane takes them; nothing was done. Wait as retry-after says, then try again`,
		metadata: { 'retry-after': String(Math.ceil(waitMs / 1000)) },
	});
}
