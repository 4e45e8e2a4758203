import type { DescMessage, DescMethodBiDiStreaming, DescMethodServerStreaming, MessageShape } from '@bufbuild/protobuf';
import { assert } from '../../kit/assert.ts';
import { GpuaasError } from '../../kit/error.ts';
import type { Tx } from '../store/port/store.ts';
import type { Plan } from '../store/port/unit.ts';
import type { AuditEvent } from './audit/event.ts';
import { withRequestFacts } from './audit/request-facts.ts';
import { type Gate, passGates } from './gates.ts';
import { freshActor } from './iam/fresh-actor.ts';
import type { TargetKind } from './iam/method-policy.ts';
import type { PolicyView } from './iam/policy-view.ts';
import type { CallContext } from './iam/principal.ts';
import { authorizedTarget, type TargetOf } from './iam/target.ts';
import {
	type BidiUseCase,
	type Call,
	depsOf,
	narrow,
	ownOrganization,
	policyFor,
	recordsSuccess,
	type StreamUseCase,
} from './use-case.ts';

/**
 * The wrapper of streams that are a deed and not a look: opening one is a unit of work with a decision and an audit
 * record, and nothing flows before it is committed. `decideAgain` throws once the caller may no longer be there.
 */
export interface Opened<T> {
	readonly value: T;
	readonly audit: AuditEvent;
}

export interface AuditedSteps<I extends DescMessage, K extends TargetKind, T> {
	/** What opening meets before `open`, now and at each later look; Explain shows the same. */
	readonly gates?: readonly Gate<K>[];
	/** In the unit; looks whether the caller may, beyond the permission. */
	open(tx: Tx, call: Call<MessageShape<I>>, target: TargetOf[K]): Plan<Opened<T>>;
}

export interface LiveCall<I extends DescMessage, T> extends Call<MessageShape<I>> {
	readonly opened: T;
	readonly decideAgain: () => Promise<void>;
}

export interface AuditedStreamSteps<I extends DescMessage, O extends DescMessage, K extends TargetKind, T>
	extends AuditedSteps<I, K, T> {
	events(call: LiveCall<I, T>): AsyncIterable<MessageShape<O>>;
}

export interface BidiSteps<I extends DescMessage, O extends DescMessage, K extends TargetKind, T>
	extends AuditedSteps<I, K, T> {
	/** `requests` goes on after the first. */
	events(call: LiveCall<I, T>, requests: AsyncIterator<MessageShape<I>>): AsyncIterable<MessageShape<O>>;
}

export function auditedStream<I extends DescMessage, O extends DescMessage, K extends TargetKind, T>(
	on: K,
	method: DescMethodServerStreaming<I, O>,
	steps: AuditedStreamSteps<I, O, K, T>,
): StreamUseCase<I, O> {
	const policy = policyFor(method, on);
	assert(recordsSuccess(policy), `${policy.name} is a read by its policy`);
	return {
		kind: 'stream',
		method,
		policy,
		...(steps.gates === undefined ? {} : { gates: steps.gates as readonly Gate[] }),
		async *run(given, ctx, request) {
			const deps = depsOf(given, ctx, policy, request);
			const call = { deps, ctx, request, nowMs: deps.clock.now(), policy };
			yield* steps.events(await opened({ on, policy, method, steps }, call));
		},
	};
}

export function bidi<I extends DescMessage, O extends DescMessage, K extends TargetKind, T>(
	on: K,
	method: DescMethodBiDiStreaming<I, O>,
	steps: BidiSteps<I, O, K, T>,
): BidiUseCase<I, O> {
	const policy = policyFor(method, on);
	assert(recordsSuccess(policy), `${policy.name}: streams both ways change something`);
	return {
		kind: 'bidi',
		method,
		policy,
		...(steps.gates === undefined ? {} : { gates: steps.gates as readonly Gate[] }),
		async *run(given, contextOf, stream) {
			const requests = stream[Symbol.asyncIterator]();
			const first = await requests.next();
			if (first.done === true) throw empty();
			const request = first.value;
			const ctx = contextOf(request);
			const deps = depsOf(given, ctx, policy, request);
			const call = { deps, ctx, request, nowMs: deps.clock.now(), policy };
			yield* steps.events(await opened({ on, policy, method, steps }, call), requests);
		},
	};
}

async function opened<I extends DescMessage, O extends DescMessage, K extends TargetKind, T>(
	how: {
		readonly on: K;
		readonly policy: ReturnType<typeof policyFor>;
		readonly method: DescMethodServerStreaming<I, O> | DescMethodBiDiStreaming<I, O>;
		readonly steps: AuditedSteps<I, K, T>;
	},
	call: Call<MessageShape<I>>,
): Promise<LiveCall<I, T>> {
	const { on, policy, method, steps } = how;
	const { deps, ctx, request, nowMs } = call;
	const pass = function* (tx: Tx, view: PolicyView, target: TargetOf[K], now: number): Plan<void> {
		const granter = function* () {
			return { view, actor: yield* freshActor(tx, view, ctx.actor, now) };
		};
		yield* passGates(tx, steps.gates ?? [], { target, actor: ctx.actor, granter, policy, deps, nowMs: now });
	};
	const value = await deps.store.unit(function* (tx) {
		const view = yield* deps.policies.inUnit(tx);
		const target = narrow(yield* authorizedTarget(tx, view, ctx, policy, request, nowMs), on);
		yield* pass(tx, view, target, nowMs);
		const change = yield* steps.open(tx, call, target);
		const audit = { ...change.audit, organization: change.audit.organization ?? ownOrganization(call) };
		yield* deps.appendAudit(tx, ctx, withRequestFacts(audit, method.input, request));
		return change.value;
	});
	const lasting = outlivingToken(ctx);
	const decideAgain = async () => {
		await deps.store.read(function* (tx) {
			const view = yield* deps.policies.committed(tx);
			const now = deps.clock.now();
			const target = narrow(yield* authorizedTarget(tx, view, lasting, policy, request, now), on);
			yield* pass(tx, view, target, now);
			yield* steps.open(tx, { ...call, nowMs: now }, target);
		});
	};
	return { ...call, opened: value, decideAgain };
}

/**
 * A person's token lives for minutes and what they type into has a length of its own: attaching anew with each token
 * would lose keys on their way. So the token may run out here; a logout, a withdrawn role or a disabled person still
 * counts at the next look, and keys, sessions of browsers and break-glass end what they opened when they end.
 */
function outlivingToken(ctx: CallContext): CallContext {
	const { actor } = ctx;
	return actor.credentialKind === 'access_token' ? { ...ctx, actor: { ...actor, credentialExpiresAtMs: null } } : ctx;
}

function empty(): GpuaasError {
	return new GpuaasError({
		code: 'INVALID_ARGUMENT',
		reason: 'INVALID_REQUEST',
		message: 'the stream ended before it said what it is about; send a first message',
	});
}
