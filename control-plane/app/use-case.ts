import type {
	DescMessage,
	DescMethod,
	DescMethodBiDiStreaming,
	DescMethodServerStreaming,
	DescMethodUnary,
	Message,
	MessageShape,
} from '@bufbuild/protobuf';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import type { PolicyDocument } from '../../health/policy.ts';
import { assert } from '../../kit/assert.ts';
import { GpuaasError } from '../../kit/error.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { AuditClass, Idempotency } from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';
import type { RequestKeyRow } from '../store/port/request-keys.ts';
import type { Tx } from '../store/port/store.ts';
import { asPlatform, type Plan } from '../store/port/unit.ts';
import { type ApprovalGate, approvalGate } from './approvals/gate.ts';
import type { AppendAudit, AuditEvent } from './audit/event.ts';
import { withRequestFacts } from './audit/request-facts.ts';
import type { AppDeps } from './deps.ts';
import { type Gate, passGates } from './gates.ts';
import { freshActor } from './iam/fresh-actor.ts';
import { type CheckedPolicy, checkedPolicy, type TargetKind } from './iam/method-policy.ts';
import type { KeySecrets } from './iam/pepper.ts';
import type { PolicyCache } from './iam/policy-view.ts';
import type { CallContext } from './iam/principal.ts';
import type { RefusalLog } from './iam/refusals.ts';
import { authorizedTarget, type Target, type TargetOf, targetName } from './iam/target.ts';
import { recordedFor, storeOf, tenancyOf } from './iam/tenancy.ts';
import type { LoginSettings } from './login/settings.ts';
import { digestOf, type PageTokens } from './paging.ts';
import type { RecordingStore } from './recordings/recording-store.ts';
import type { Telemetry } from './telemetry/telemetry.ts';

/**
 * The one wrapper around everything that the API can do. A use case says what it reads, changes and records; the
 * wrapper takes the decision inside the same snapshot or unit, keeps the first answer to a request id, writes exactly
 * one audit record and the outbox rows with the change, and only then lets side effects happen. So no use case can
 * forget authorization, idempotency or audit: there is no other way to reach `apply`.
 *
 * mutation: prepare (async: keys, other reads) -> gates -> apply (one unit) -> effects (after commit).
 * query: read (one snapshot) -> answer. stream: open decides, then events.
 */
export interface UseCaseDeps extends AppDeps {
	readonly appendAudit: AppendAudit;
	readonly pages: PageTokens;
	readonly refusals: RefusalLog;
	readonly recordings: RecordingStore;
	readonly login: LoginSettings;
	/** Of the API listener, by name; set by it. */
	readonly methods?: ReadonlyMap<string, ServedMethod>;
	readonly policies: PolicyCache;
	readonly secrets: KeySecrets;
	readonly telemetry: Telemetry;
	/** That nodes are judged by. Absent: the one that ships. */
	readonly healthPolicy?: PolicyDocument;
}

/** What Explain and approvals look up of a method that is served. */
export interface ServedMethod {
	readonly method: DescMethod;
	readonly policy: CheckedPolicy;
	readonly useCase: Pick<UseCase, 'gates'>;
}

/** One call of a use case. */
export interface Call<Request> {
	readonly deps: UseCaseDeps;
	readonly ctx: CallContext;
	readonly request: Request;
	/** Wall clock at the start of the call; plans use it, never the clock. */
	readonly nowMs: number;
	/** Of the method. */
	readonly policy: CheckedPolicy;
}

/** What the API listener serves; `run` of a stream gives its events. */
export interface UnaryUseCase<I extends DescMessage = DescMessage, O extends DescMessage = DescMessage> {
	readonly kind: 'unary';
	readonly method: DescMethodUnary<I, O>;
	readonly policy: CheckedPolicy;
	/** Of a mutation. */
	readonly gates?: readonly Gate[];
	run(deps: UseCaseDeps, ctx: CallContext, request: MessageShape<I>): Promise<MessageShape<O>>;
}

export interface StreamUseCase<I extends DescMessage = DescMessage, O extends DescMessage = DescMessage> {
	readonly kind: 'stream';
	readonly method: DescMethodServerStreaming<I, O>;
	readonly policy: CheckedPolicy;
	readonly gates?: readonly Gate[];
	run(deps: UseCaseDeps, ctx: CallContext, request: MessageShape<I>): AsyncIterable<MessageShape<O>>;
}

/** Both sides stream; the first request names the target. */
export interface BidiUseCase<I extends DescMessage = DescMessage, O extends DescMessage = DescMessage> {
	readonly kind: 'bidi';
	readonly method: DescMethodBiDiStreaming<I, O>;
	readonly policy: CheckedPolicy;
	readonly gates?: readonly Gate[];
	run(
		deps: UseCaseDeps,
		contextOf: (first: MessageShape<I>) => CallContext,
		requests: AsyncIterable<MessageShape<I>>,
	): AsyncIterable<MessageShape<O>>;
}

export type UseCase = UnaryUseCase | StreamUseCase | BidiUseCase;

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
		async run(given, ctx, request) {
			const deps = depsOf(given, ctx, policy, request);
			const call = { deps, ctx, request, nowMs: deps.clock.now(), policy };
			const rows = await deps.store.read(function* (tx) {
				const view = yield* deps.policies.committed(tx);
				const target = yield* authorizedTarget(tx, view, ctx, policy, request, call.nowMs);
				return yield* steps.read(tx, call, narrow(target, on));
			});
			if (ctx.actor.credentialKind === 'break_glass') await recordRead(call, policy);
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
	/** Before the unit, after a first decision, where there is one: may read, sign, ask a key store. */
	prepare?(call: Call<MessageShape<I>>, target: TargetOf[K]): Promise<Prepared> | Prepared;
	/** What the call meets before `apply`, in the unit and in this order; Explain shows the same. */
	readonly gates?: readonly Gate<K>[];
	/**
	 * What has to hold still from the decision to the end; only of a use case whose `prepare` comes after a first decision.
	 * Of what is about a scope it is always the policy: see `lockPolicy`.
	 */
	lock?(tx: Tx): Plan<void>;
	/** In the unit. Looks again at whatever `prepare` saw. May be run more than once. */
	apply(tx: Tx, call: Call<MessageShape<I>>, target: TargetOf[K], prepared: Prepared): Plan<Change<MessageShape<O>>>;
}

/**
 * One order for whoever changes identity and access, on PostgreSQL: the policy's row first, then rows of scopes, keys and
 * principals. Nearly every change about a scope raises the policy before its end; if it had locked its scope before that, it
 * and whoever holds the policy and wants the scope would wait for each other.
 */
export function* lockPolicy(tx: Tx): Plan<void> {
	yield* tx.access.lockPolicy();
}

export function mutation<I extends DescMessage, O extends DescMessage, K extends TargetKind, Prepared>(
	on: K,
	method: DescMethodUnary<I, O>,
	steps: MutationSteps<I, O, K, Prepared>,
): UnaryUseCase<I, O> {
	const policy = policyFor(method, on);
	assert(recordsSuccess(policy), `${policy.name} is a read by its policy`);
	// Else whoever is refused would lock as well.
	const lock = on === 'scope' ? lockPolicy : steps.lock;
	assert(lock === undefined || steps.prepare !== undefined, `${policy.name} locks after a first decision`);
	return {
		kind: 'unary',
		method,
		policy,
		...(steps.gates === undefined ? {} : { gates: steps.gates as readonly Gate[] }),
		async run(given, ctx, request) {
			const deps = depsOf(given, ctx, policy, request);
			const call: Call<MessageShape<I>> = { deps, ctx, request, nowMs: deps.clock.now(), policy };
			const key = requestKeyOf(method, policy, call);
			if (policy.audit === AuditClass.PRIVILEGED) deps.heads.assertSigning();
			const approval = approvalGate(method, policy, call);
			const planned = { call, policy, on, method, steps, lock, key, approval };
			const unit = { ...planned, prepared: await prepare(planned) };
			const attempt = () => deps.store.unit((tx) => unitOf(tx, unit));
			let done: Done<MessageShape<O>>;
			try {
				done = await attempt();
			} catch (error) {
				// Two at once under one request id: whoever lost the insert, or the approval, reads the winner's answer.
				if (key === undefined || !isLostRace(error)) throw error;
				done = await attempt();
			}
			for (const hint of done.events) deps.bus.publish(hint);
			done.effects?.();
			if (done.leafId !== undefined && policy.audit === AuditClass.PRIVILEGED) await deps.heads.covered(done.leafId);
			return done.response;
		},
	};
}

async function prepare<I extends DescMessage, O extends DescMessage, K extends TargetKind, Prepared>(
	planned: Omit<UnitInput<I, O, K, Prepared>, 'prepared'>,
): Promise<Prepared> {
	const { call, policy, on, steps, key, approval } = planned;
	// Then `apply` takes nothing, and the unit's own decision is the first.
	if (steps.prepare === undefined) return undefined as Prepared;
	const { deps, ctx, request, nowMs } = call;
	const first = await deps.store.read(function* (tx) {
		const view = yield* deps.policies.committed(tx);
		if (approval === undefined) return yield* authorizedTarget(tx, view, ctx, policy, request, nowMs);
		const isRetry = (yield* firstAnswer(tx, call, key)) !== undefined;
		const approved = isRetry ? approval.again : approval.check;
		return yield* authorizedTarget(tx, view, ctx, policy, request, nowMs, approved);
	});
	return await steps.prepare(call, narrow(first, on));
}

interface UnitInput<I extends DescMessage, O extends DescMessage, K extends TargetKind, Prepared> {
	readonly call: Call<MessageShape<I>>;
	readonly policy: CheckedPolicy;
	readonly on: K;
	readonly method: DescMethodUnary<I, O>;
	readonly steps: MutationSteps<I, O, K, Prepared>;
	readonly lock: ((tx: Tx) => Plan<void>) | undefined;
	readonly prepared: Prepared;
	readonly key: RequestKey | undefined;
	readonly approval: ApprovalGate | undefined;
}

interface Done<Response> {
	readonly response: Response;
	/** Of the change, also when its first answer is given again; undefined where an older version gave that. */
	readonly leafId: string | undefined;
	readonly events: readonly { readonly topic: string; readonly key: string }[];
	readonly effects: (() => void) | undefined;
}

function* unitOf<I extends DescMessage, O extends DescMessage, K extends TargetKind, Prepared>(
	tx: Tx,
	input: UnitInput<I, O, K, Prepared>,
): Plan<Done<MessageShape<O>>> {
	const { call, policy, key, method, approval } = input;
	const { deps, ctx, nowMs } = call;
	// Before the decision locks the rows that it is about: two who lock in another order would wait for each other.
	if (input.lock !== undefined) yield* input.lock(tx);
	const view = yield* deps.policies.inUnit(tx);
	// Once, and before an approval is used up: a retry gets the first answer and needs no second approval.
	const known = yield* firstAnswer(tx, call, key);
	const approved = known === undefined ? approval?.consume : approval?.again;
	const allowed = yield* authorizedTarget(tx, view, ctx, policy, call.request, nowMs, approved);
	const target = narrow(allowed, input.on);
	if (key !== undefined && known !== undefined) {
		if (!Buffer.from(known.bodySha256).equals(key.bodySha256)) throw reused();
		const response = fromBinary(method.output, known.response);
		return { response, leafId: known.leafId ?? undefined, events: [], effects: undefined };
	}
	const { gates = [] } = input.steps;
	const granter = function* () {
		return { view, actor: yield* freshActor(tx, view, ctx.actor, nowMs) };
	};
	yield* passGates(tx, gates, { target, actor: ctx.actor, granter, policy, deps, nowMs });
	const change = yield* input.steps.apply(tx, call, target, input.prepared);
	const audit = { ...change.audit, organization: change.audit.organization ?? ownOrganization(call) };
	const event = approval === undefined ? audit : approval.noted(audit);
	const leafId = yield* deps.appendAudit(tx, ctx, withRequestFacts(event, method.input, call.request));
	const events = change.events ?? [];
	yield* asPlatform(kept(tx, input, { ...change, events, leafId }));
	return { response: change.response, leafId, events, effects: change.effects };
}

/** What the platform keeps with a change: hints to publish, and the answer for a retry. */
function* kept<I extends DescMessage, O extends DescMessage, K extends TargetKind, Prepared>(
	tx: Tx,
	{ call, policy, key, method }: UnitInput<I, O, K, Prepared>,
	{ response, events, leafId }: Pick<Done<MessageShape<O>>, 'response' | 'events'> & { readonly leafId: string },
): Plan<void> {
	const { deps, ctx, nowMs } = call;
	for (const { topic, key: object } of events)
		yield* tx.outbox.append({ id: uuidv7(nowMs, deps.rng), topic, key: object, atMs: nowMs });
	if (key === undefined) return;
	yield* tx.requestKeys.insert({
		principalId: ctx.actor.id,
		method: policy.name,
		requestId: key.requestId,
		bodySha256: key.bodySha256,
		response: toBinary(method.output, response),
		leafId,
		expiresAtMs: nowMs + deps.limits.requestKeyTtlMs,
	});
}

/** The store of a tenant's call is that tenant's: row security holds every statement of it. */
export function depsOf(deps: UseCaseDeps, ctx: CallContext, policy: CheckedPolicy, request: Message): UseCaseDeps {
	const tenancy = tenancyOf(ctx.actor, policy, request);
	return tenancy === undefined ? deps : { ...deps, store: storeOf(deps.store, tenancy) };
}

/** Of a change about nobody's thing but the caller's own, as a key: where the caller belongs to one organization. */
export function ownOrganization({ ctx, policy, request }: Call<Message>): string {
	const [own, ...others] = recordedFor(ctx, policy, request);
	return others.length === 0 ? (own ?? '') : '';
}

function isLostRace(error: unknown): boolean {
	return error instanceof GpuaasError && (error.code === 'ALREADY_EXISTS' || error.reason === 'APPROVAL_INVALID');
}

function* firstAnswer(
	tx: Tx,
	{ ctx, policy }: Call<unknown>,
	key: RequestKey | undefined,
): Plan<RequestKeyRow | undefined> {
	return key === undefined ? undefined : yield* tx.requestKeys.get(ctx.actor.id, policy.name, key.requestId);
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
		async *run(given, ctx, request) {
			const deps = depsOf(given, ctx, policy, request);
			const call = { deps, ctx, request, nowMs: deps.clock.now(), policy };
			const decideAgain = async () => {
				const target = await deps.store.read(function* (tx) {
					const view = yield* deps.policies.committed(tx);
					return yield* authorizedTarget(tx, view, ctx, policy, request, deps.clock.now());
				});
				return narrow(target, on);
			};
			const first = await decideAgain();
			if (ctx.actor.credentialKind === 'break_glass') await recordRead(call, policy);
			yield* steps.events(call, first, decideAgain);
		},
	};
}

/** Under break-glass everything leaves a record, before it is answered. */
async function recordRead({ deps, ctx, request }: Call<Message>, policy: CheckedPolicy): Promise<void> {
	const action = policy.permission === '' ? policy.name : policy.permission;
	const event = { action, target: targetName(policy, request), result: 'ok', reason: '' } as const;
	await deps.store.unit((tx) => deps.appendAudit(tx, ctx, event));
}

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

export function recordsSuccess(policy: CheckedPolicy): boolean {
	return policy.audit === AuditClass.MUTATION || policy.audit === AuditClass.PRIVILEGED;
}

export function policyFor(
	method: DescMethodUnary | DescMethodServerStreaming | DescMethodBiDiStreaming,
	on: TargetKind,
): CheckedPolicy {
	const policy = checkedPolicy(method);
	assert(policy.target === on, `${policy.name} is about "${policy.target}" by its policy, not "${on}"`);
	return policy;
}

export function narrow<K extends TargetKind>(target: Target, on: K): TargetOf[K] {
	assert(target.kind === on, `the target is a ${target.kind}, not a ${on}`);
	// The assertion above is the proof; TypeScript can't follow an indexed type through a discriminant.
	return target as TargetOf[K];
}
