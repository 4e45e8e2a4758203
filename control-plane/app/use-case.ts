import type {
	DescMessage,
	DescMethodServerStreaming,
	DescMethodUnary,
	Message,
	MessageShape,
} from '@bufbuild/protobuf';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { assert } from '../../kit/assert.ts';
import { GpuaasError } from '../../kit/error.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { AuditClass, Idempotency } from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import type { Tx } from '../store/port/store.ts';
import type { Plan } from '../store/port/unit.ts';
import type { AppendAudit, AuditEvent } from './audit/event.ts';
import { withRequestFacts } from './audit/request-facts.ts';
import type { AppDeps } from './deps.ts';
import { type CheckedPolicy, checkedPolicy, type TargetKind } from './iam/method-policy.ts';
import type { CallContext } from './iam/principal.ts';
import type { RefusalLog } from './iam/refusals.ts';
import { authorizedTarget, type Target, type TargetOf, targetName } from './iam/target.ts';
import { digestOf, type PageTokens } from './paging.ts';

/**
 * The one wrapper around everything that the API can do. A use case says what it reads, changes and records; the
 * wrapper takes the decision inside the same snapshot or unit, keeps the first answer to a request id, writes exactly
 * one audit record and the outbox rows with the change, and only then lets side effects happen. So no use case can
 * forget authorization, idempotency or audit: there is no other way to reach `apply`.
 *
 * mutation: prepare (async: keys, other reads) -> apply (one unit) -> effects (after commit).
 * query: read (one snapshot) -> answer. stream: open decides, then events.
 */
export interface UseCaseDeps extends AppDeps {
	readonly appendAudit: AppendAudit;
	readonly pages: PageTokens;
	readonly refusals: RefusalLog;
}

/** One call of a use case. */
export interface Call<Request> {
	readonly deps: UseCaseDeps;
	readonly ctx: CallContext;
	readonly request: Request;
	/** Wall clock at the start of the call; plans use it, never the clock. */
	readonly nowMs: number;
}

/** What the API listener serves; `run` of a stream gives its events. */
export interface UnaryUseCase<I extends DescMessage = DescMessage, O extends DescMessage = DescMessage> {
	readonly kind: 'unary';
	readonly method: DescMethodUnary<I, O>;
	readonly policy: CheckedPolicy;
	run(deps: UseCaseDeps, ctx: CallContext, request: MessageShape<I>): Promise<MessageShape<O>>;
}

export interface StreamUseCase<I extends DescMessage = DescMessage, O extends DescMessage = DescMessage> {
	readonly kind: 'stream';
	readonly method: DescMethodServerStreaming<I, O>;
	readonly policy: CheckedPolicy;
	run(deps: UseCaseDeps, ctx: CallContext, request: MessageShape<I>): AsyncIterable<MessageShape<O>>;
}

export type UseCase = UnaryUseCase | StreamUseCase;

export interface QuerySteps<I extends DescMessage, O extends DescMessage, K extends TargetKind, Rows> {
	read(tx: Tx, call: Call<MessageShape<I>>, target: TargetOf[K]): Plan<Rows>;
	answer(call: Call<MessageShape<I>>, rows: Rows): MessageShape<O> | Promise<MessageShape<O>>;
}

/** A read: decision and rows from one snapshot. */
export function query<I extends DescMessage, O extends DescMessage, K extends TargetKind, Rows>(
	on: K,
	method: DescMethodUnary<I, O>,
	steps: QuerySteps<I, O, K, Rows>,
): UnaryUseCase<I, O> {
	const policy = policyFor(method, on);
	assert(!recordsSuccess(policy), `${policy.name} is a mutation by its policy`);
	return {
		kind: 'unary',
		method,
		policy,
		async run(deps, ctx, request) {
			const call = { deps, ctx, request, nowMs: deps.clock.now() };
			const rows = await deps.store.read(function* (tx) {
				return yield* steps.read(tx, call, narrow(yield* authorizedTarget(tx, ctx, policy, request, call.nowMs), on));
			});
			return await steps.answer(call, rows);
		},
	};
}

/** What `apply` did: the answer, its audit record, what to publish, and side effects for after the commit. */
export interface Change<Response> {
	readonly response: Response;
	readonly audit: AuditEvent;
	/** Outbox rows, published as hints after the commit too. */
	readonly events?: readonly { readonly topic: string; readonly key: string }[];
	/** Quick, must not throw. */
	readonly effects?: () => void;
}

export interface MutationSteps<I extends DescMessage, O extends DescMessage, K extends TargetKind, Prepared> {
	/** Before the unit, after a first decision. May read, sign, ask a key store. */
	prepare(call: Call<MessageShape<I>>, target: TargetOf[K]): Promise<Prepared> | Prepared;
	/** In the unit. Looks again at whatever `prepare` saw. May be run more than once. */
	apply(tx: Tx, call: Call<MessageShape<I>>, target: TargetOf[K], prepared: Prepared): Plan<Change<MessageShape<O>>>;
}

export function mutation<I extends DescMessage, O extends DescMessage, K extends TargetKind, Prepared>(
	on: K,
	method: DescMethodUnary<I, O>,
	steps: MutationSteps<I, O, K, Prepared>,
): UnaryUseCase<I, O> {
	const policy = policyFor(method, on);
	assert(recordsSuccess(policy), `${policy.name} is a read by its policy`);
	return {
		kind: 'unary',
		method,
		policy,
		async run(deps, ctx, request) {
			const call: Call<MessageShape<I>> = { deps, ctx, request, nowMs: deps.clock.now() };
			const key = requestKeyOf(method, policy, call);
			if (policy.audit === AuditClass.PRIVILEGED) deps.heads.assertSigning();
			const first = await deps.store.read((tx) => authorizedTarget(tx, ctx, policy, request, call.nowMs));
			const prepared = await steps.prepare(call, narrow(first, on));
			const attempt = () => deps.store.unit((tx) => unitOf(tx, { call, policy, on, method, steps, prepared, key }));
			let done: Done<MessageShape<O>>;
			try {
				done = await attempt();
			} catch (error) {
				// Two at once under one request id: whoever lost the insert reads the winner's answer.
				if (key === undefined || !(error instanceof GpuaasError) || error.code !== 'ALREADY_EXISTS') throw error;
				done = await attempt();
			}
			for (const hint of done.events) deps.bus.publish(hint);
			done.effects?.();
			if (done.leafId !== undefined && policy.audit === AuditClass.PRIVILEGED) await deps.heads.covered(done.leafId);
			return done.response;
		},
	};
}

interface UnitInput<I extends DescMessage, O extends DescMessage, K extends TargetKind, Prepared> {
	readonly call: Call<MessageShape<I>>;
	readonly policy: CheckedPolicy;
	readonly on: K;
	readonly method: DescMethodUnary<I, O>;
	readonly steps: MutationSteps<I, O, K, Prepared>;
	readonly prepared: Prepared;
	readonly key: RequestKey | undefined;
}

interface Done<Response> {
	readonly response: Response;
	/** Undefined when the first answer was given again. */
	readonly leafId: string | undefined;
	readonly events: readonly { readonly topic: string; readonly key: string }[];
	readonly effects: (() => void) | undefined;
}

function* unitOf<I extends DescMessage, O extends DescMessage, K extends TargetKind, Prepared>(
	tx: Tx,
	input: UnitInput<I, O, K, Prepared>,
): Plan<Done<MessageShape<O>>> {
	const { call, policy, key, method } = input;
	const { deps, ctx, nowMs } = call;
	const target = narrow(yield* authorizedTarget(tx, ctx, policy, call.request, nowMs), input.on);
	const known = key === undefined ? undefined : yield* tx.requestKeys.get(ctx.actor.id, policy.name, key.requestId);
	if (key !== undefined && known !== undefined) {
		if (!Buffer.from(known.bodySha256).equals(key.bodySha256)) throw reused();
		return { response: fromBinary(method.output, known.response), leafId: undefined, events: [], effects: undefined };
	}
	const change = yield* input.steps.apply(tx, call, target, input.prepared);
	const leafId = yield* deps.appendAudit(tx, ctx, withRequestFacts(change.audit, method.input, call.request));
	const events = change.events ?? [];
	for (const { topic, key: object } of events)
		yield* tx.outbox.append({ id: uuidv7(nowMs, deps.rng), topic, key: object, atMs: nowMs });
	if (key !== undefined) {
		yield* tx.requestKeys.insert({
			principalId: ctx.actor.id,
			method: policy.name,
			requestId: key.requestId,
			bodySha256: key.bodySha256,
			response: toBinary(method.output, change.response),
			expiresAtMs: nowMs + deps.limits.requestKeyTtlMs,
		});
	}
	return { response: change.response, leafId, events, effects: change.effects };
}

export interface StreamSteps<I extends DescMessage, O extends DescMessage, K extends TargetKind> {
	/** `decideAgain` throws once the caller may no longer see the target; ask it with every look at the store. */
	events(
		call: Call<MessageShape<I>>,
		target: TargetOf[K],
		decideAgain: () => Promise<TargetOf[K]>,
	): AsyncIterable<MessageShape<O>>;
}

export function stream<I extends DescMessage, O extends DescMessage, K extends TargetKind>(
	on: K,
	method: DescMethodServerStreaming<I, O>,
	steps: StreamSteps<I, O, K>,
): StreamUseCase<I, O> {
	const policy = policyFor(method, on);
	assert(!recordsSuccess(policy), `${policy.name}: streams that change something need units of their own`);
	return {
		kind: 'stream',
		method,
		policy,
		async *run(deps, ctx, request) {
			const call = { deps, ctx, request, nowMs: deps.clock.now() };
			const decideAgain = async () =>
				narrow(await deps.store.read((tx) => authorizedTarget(tx, ctx, policy, request, deps.clock.now())), on);
			yield* steps.events(call, await decideAgain(), decideAgain);
		},
	};
}

/** Records a refused or failed call where its policy wants that. `request` is undefined before it was read. */
export async function recordRefusal(
	deps: UseCaseDeps,
	ctx: CallContext,
	policy: CheckedPolicy,
	request: Message | undefined,
	error: GpuaasError,
): Promise<void> {
	const denied = DENIALS.has(error.code);
	const failed = recordsSuccess(policy) && FAILURES.has(error.code);
	if (policy.audit === AuditClass.NONE || !(denied || failed)) return;
	// Reads by nobody in particular are noise of the network, not a decision about a person.
	if (error.code === 'UNAUTHENTICATED' && !recordsSuccess(policy)) return;
	const action = policy.permission === '' ? policy.name : policy.permission;
	await deps.refusals.record(ctx, action, request === undefined ? '' : targetName(policy, request), error);
}

const DENIALS: ReadonlySet<string> = new Set(['UNAUTHENTICATED', 'PERMISSION_DENIED', 'NOT_FOUND']);
const FAILURES: ReadonlySet<string> = new Set([
	'FAILED_PRECONDITION',
	'ABORTED',
	'ALREADY_EXISTS',
	'RESOURCE_EXHAUSTED',
]);

interface RequestKey {
	readonly requestId: string;
	readonly bodySha256: Uint8Array;
}

function requestKeyOf<I extends DescMessage, O extends DescMessage>(
	method: DescMethodUnary<I, O>,
	policy: CheckedPolicy,
	call: Call<MessageShape<I>>,
): RequestKey | undefined {
	const { requestId } = call.ctx;
	if (policy.idempotency !== Idempotency.REQUEST_ID || requestId === '') return undefined;
	return { requestId, bodySha256: Buffer.from(digestOf(method.input, call.request, ['requestId']), 'hex') };
}

function reused(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'REQUEST_ID_REUSED',
		message: 'this request_id was used for a different request; nothing was done. Use a new one for a new request',
	});
}

function recordsSuccess(policy: CheckedPolicy): boolean {
	return policy.audit === AuditClass.MUTATION || policy.audit === AuditClass.PRIVILEGED;
}

function policyFor(method: DescMethodUnary | DescMethodServerStreaming, on: TargetKind): CheckedPolicy {
	const policy = checkedPolicy(method);
	assert(policy.target === on, `${policy.name} is about "${policy.target}" by its policy, not "${on}"`);
	return policy;
}

function narrow<K extends TargetKind>(target: Target, on: K): TargetOf[K] {
	assert(target.kind === on, `the target is a ${target.kind}, not a ${on}`);
	// The assertion above is the proof; TypeScript can't follow an indexed type through a discriminant.
	return target as TargetOf[K];
}
