import type { HandlerContext } from '@connectrpc/connect';
import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { KeyedBuckets } from '../../../kit/limits.ts';
import { Caller, Idempotency } from '../../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import type { Authenticator } from '../../app/iam/authenticate.ts';
import { methodName } from '../../app/iam/method-policy.ts';
import type { PrincipalActor } from '../../app/iam/principal.ts';
import { refusal } from '../../app/iam/target.ts';
import { loginRefused } from '../../app/login/refusals.ts';
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
	readonly addresses: Addresses;
}

/** What one address may send to this listener, whatever it asks for: shared by the methods and the pages beside them. */
export class Addresses {
	readonly #buckets: KeyedBuckets;

	constructor(clock: Clock, limits: Pick<ApiLimits, 'perAddress'>) {
		this.#buckets = buckets(clock, limits.perAddress);
	}

	/** Throws RATE_LIMITED. */
	admit(peer: string): void {
		refuseAbove(this.#buckets.take(peer), 'your address sends');
	}
}

export function createGate(options: GateOptions): (context: HandlerContext) => Promise<void> {
	const { clock, limits, authenticator, methods, outcome, addresses } = options;
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
			addresses.admit(state.peer);
			const { requestHeader } = context;
			state.actor = await authenticator.authenticate(requestHeader.get('authorization'), {
				peer: state.peer,
				header: (name) => requestHeader.get(name),
				isRead: state.method?.policy.idempotency === Idempotency.SAFE,
			});
			if (state.method === undefined) return;
			const { policy } = state.method;
			if (policy.caller === Caller.PRINCIPAL) refuseStranger(state.actor);
			if (policy.idempotency !== Idempotency.SAFE) refuseStaleKeys(state.actor);
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

/** A good token of somebody who isn't known here. */
function refuseStranger({ kind, login }: PrincipalActor): void {
	if (kind === 'anonymous' && login !== undefined) throw loginRefused('USER_NOT_INVITED');
}

/** While the provider's keys can't be fetched, a login is good for looking, not for changing. */
function refuseStaleKeys({ login }: PrincipalActor): void {
	if (login === undefined || login.keysFresh) return;
	throw new GpuaasError({
		code: 'UNAVAILABLE',
		reason: 'LOGIN_STALE_KEYS',
		message:
			"the identity provider can't be reached, and until it is back logins may only read; nothing was done. Try again then, or use an API key",
	});
}
