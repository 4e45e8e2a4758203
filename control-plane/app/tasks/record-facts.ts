import { toBinary } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import { verifyDsse } from '../../../pki/verify/dsse.ts';
import { DsseEnvelopeSchema } from '../../../proto/gen/gpuaas/common/v1/types_pb.ts';
import type { Fact, TaskFinished } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { HealthFact } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { RequestContext } from '../../context.ts';
import type { NodeFence } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { TaskRow } from '../../store/port/tasks.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AppendAudit } from '../audit/event.ts';
import type { AppDeps } from '../deps.ts';
import type { FactBudget, FactVerdict, RefusedCounts } from '../telemetry/fact-budget.ts';
import { recordHealthFacts } from '../telemetry/record-health-facts.ts';
import { recordInventories } from '../telemetry/record-inventory.ts';
import type { AgentAuditLimit, AgentAuditVerdict } from './agent-audit-limit.ts';
import { type Judgement, judgeReceipts } from './judge-receipts.ts';
import { releaseTasks } from './release-tasks.ts';
import { type AttemptId, isSameAttempt, type TaskFact, transition } from './transition.ts';
import type { VerifySignatures } from './verify-receipt.ts';
import { isEnded } from './view.ts';

/**
 * Commits facts of one agent session: one unit a batch, in order, each fact once. Receipts are verified and inline
 * output is made durable before the unit; after it, hints say which tasks changed. What the agent says is stored with
 * the custody of its node at this moment. Called by the gateway, which acknowledges the returned number.
 */
export type RecordDeps = AppDeps & {
	readonly appendAudit: AppendAudit;
	/** Absent: every fact becomes a record. */
	readonly agentAudit?: AgentAuditLimit;
	/** Absent: every fact about health and inventories is stored. */
	readonly budget?: FactBudget;
	/** Absent: on this thread. */
	readonly verifySignatures?: VerifySignatures;
	/** Told of health facts once they are stored. Must not throw. */
	readonly onHealthFacts?: (nodeId: string, facts: readonly HealthFact[]) => void;
};

export interface FactSource {
	readonly nodeId: string;
	readonly epoch: number;
}

/** Returns the highest fact that is committed. Throws SESSION_SUPERSEDED when the node has a newer epoch. */
export async function recordFacts(
	deps: RecordDeps,
	ctx: RequestContext,
	source: FactSource,
	facts: readonly Fact[],
): Promise<bigint> {
	const nowMs = deps.clock.now();
	const fresh = [...facts].sort(bySeq);
	const judgements = await judgeReceipts(deps, ctx, source.nodeId, fresh, deps.verifySignatures ?? verifyDsse);
	// Sorted: they rise with the facts.
	const outboxIds = fresh.map(() => uuidv7(nowMs, deps.rng)).sort();
	// Before the unit, which may run more than once.
	const said = fresh.filter(({ fact }) => fact.case === 'agentAudit').length;
	const audit = deps.agentAudit?.judge(source.nodeId, said) ?? { recorded: said, suppressed: 0, skipped: 0 };
	const budget = deps.budget?.judge(source.nodeId, fresh);
	const batch = { appendAudit: deps.appendAudit, source, fresh, judgements, outboxIds, nowMs, audit, budget };
	const done = await deps.store
		.unit((tx) => apply(tx, ctx, batch))
		.catch((error: unknown) => {
			deps.agentAudit?.restore(source.nodeId, audit);
			if (budget !== undefined) deps.budget?.restore(source.nodeId, budget);
			throw error;
		});
	deps.budget?.note(source.nodeId, { audit: audit.skipped });
	if (budget !== undefined) deps.budget?.committed(source.nodeId, budget);
	if (budget?.summary !== undefined)
		ctx.log.warn('a node says more than is stored of it', { node: source.nodeId, ...budget.summary });
	for (const taskId of done.changed) deps.bus.publish({ topic: 'tasks.changed', key: taskId });
	for (const { id, attempt, state, reason, correlationId } of done.ended)
		deps.log.debug('a task ended', { task: id, attempt, state, reason, correlation_id: correlationId });
	if (done.health.length > 0) deps.onHealthFacts?.(source.nodeId, done.health);
	if (done.inventoried) deps.bus.publish({ topic: 'nodes.inventory', key: source.nodeId });
	if (done.isRequeued) deps.bus.publish({ topic: 'tasks.queued', key: source.nodeId });
	return done.factSeq;
}

interface Batch {
	readonly appendAudit: AppendAudit;
	readonly source: FactSource;
	readonly fresh: readonly Fact[];
	readonly judgements: ReadonlyMap<bigint, Judgement>;
	readonly outboxIds: readonly string[];
	readonly nowMs: number;
	readonly audit: AgentAuditVerdict;
	readonly budget: FactVerdict | undefined;
}

interface Recorded {
	readonly factSeq: bigint;
	readonly changed: ReadonlySet<string>;
	readonly ended: readonly TaskRow[];
	readonly isRequeued: boolean;
	/** The node reported what it consists of. */
	readonly inventoried: boolean;
	readonly health: readonly HealthFact[];
}

function* apply(tx: Tx, ctx: RequestContext, batch: Batch): Plan<Recorded> {
	const { source, fresh, nowMs } = batch;
	const node = currentFence(yield* tx.nodes.getFence(source.nodeId), source);
	const changed = new Set<string>();
	const ended: TaskRow[] = [];
	let isRequeued = false;
	let inventoried = false;
	let health: readonly HealthFact[] = [];
	let factSeq = BigInt(node.factSeq);
	for (const tasksFacts of groupByTask(fresh.filter((fact) => fact.seq > factSeq))) {
		for (const fact of tasksFacts.facts) if (fact.seq > factSeq) factSeq = fact.seq;
		if (tasksFacts.taskId === undefined) {
			yield* recordAgentAudit(tx, ctx, node, batch, tasksFacts.facts);
			const stored = tasksFacts.facts.filter(({ seq }) => batch.budget?.refused.has(seq) !== true);
			health = yield* recordHealthFacts(tx, node, { nowMs, idOf: idsOf(batch) }, stored);
			inventoried ||= yield* recordInventories(tx, ctx, node, batch, stored);
			continue;
		}
		const after = yield* applyToTask(tx, ctx, node, batch, tasksFacts.taskId, tasksFacts.facts);
		if (after === undefined) continue;
		const outboxId = batch.outboxIds[changed.size] ?? '';
		changed.add(after.id);
		if (isEnded(after.state)) ended.push(after);
		isRequeued ||= after.state === 'queued';
		// `tasks.queued` names the node, because whoever listens looks at a node's queue.
		const event =
			after.state === 'queued' ? { topic: 'tasks.queued', key: node.id } : { topic: 'tasks.changed', key: after.id };
		yield* tx.outbox.append({ id: outboxId, ...event, atMs: nowMs });
	}
	yield* releaseTasks(tx, ended);
	if (batch.audit.suppressed > 0) yield* auditSuppressed(tx, ctx, node, batch);
	if (batch.budget?.summary !== undefined) yield* auditRefused(tx, ctx, node, batch, batch.budget.summary);
	yield* tx.nodes.setFactSeq(node.id, Number(factSeq));
	return { factSeq, changed, ended, isRequeued, inventoried, health };
}

function idsOf({ fresh, outboxIds }: Batch): (fact: Fact) => string {
	return (fact) => outboxIds[fresh.indexOf(fact)] ?? '';
}

/** All facts of one task become one update; undefined when nobody who looks at the task could see a difference. */
function* applyToTask(
	tx: Tx,
	ctx: RequestContext,
	node: NodeFence,
	batch: Batch,
	taskId: string,
	facts: readonly Fact[],
): Plan<TaskRow | undefined> {
	const before = yield* tx.tasks.get(taskId);
	if (before === undefined || before.nodeId !== node.id) return undefined;
	let after = before;
	let finish: TaskFinished | undefined;
	for (const fact of facts) {
		const read = readFact(fact, batch.judgements);
		if (read === undefined || !isSameAttempt(after, read.id)) continue;
		const patch = transition(after, read.event, batch.nowMs);
		if (patch === undefined) continue;
		after = { ...after, ...patch, custody: node.custody };
		if (read.event.kind === 'finished' && fact.fact.case === 'taskFinished') finish = fact.fact.value;
		if (read.event.kind === 'receipt-invalid') yield* auditInvalid(tx, ctx, node, batch, after);
	}
	if (after === before) return undefined;
	// The row was read in this unit; `ifStates` refuses what another replica changed since.
	if (!(yield* tx.tasks.change(taskId, patchBetween(before, after), [before.state]))) throw movedOn(taskId);
	if (finish?.receipt !== undefined) {
		const receipt = toBinary(DsseEnvelopeSchema, finish.receipt);
		const { attempt, certificate } = finish;
		yield* tx.tasks.putDocuments({ taskId, attempt, receipt, nodeCertificate: certificate });
	}
	if (before.state === 'lost') yield* auditSuperseded(tx, ctx, node, batch, before, after);
	return after.state === before.state && after.startedAtMs === before.startedAtMs ? undefined : after;
}

function patchBetween(before: TaskRow, after: TaskRow): Partial<TaskRow> {
	const keys = Object.keys(after) as (keyof TaskRow)[];
	return Object.fromEntries(keys.filter((key) => before[key] !== after[key]).map((key) => [key, after[key]]));
}

function readFact(
	{ fact, at, seq }: Fact,
	judgements: ReadonlyMap<bigint, Judgement>,
): { readonly id: AttemptId; readonly event: TaskFact } | undefined {
	switch (fact.case) {
		case 'taskAccepted':
			return { id: fact.value, event: { kind: 'accepted' } };
		case 'taskRefused':
			return { id: fact.value, event: { kind: 'refused', fact: fact.value } };
		case 'taskStarted':
			return { id: fact.value, event: { kind: 'started', fact: fact.value, atMs: at ? timestampMs(at) : 0 } };
		case 'taskFinished': {
			const judgement = judgements.get(seq);
			return judgement && { id: fact.value, event: judgement };
		}
		default:
			return undefined;
	}
}

interface TaskFacts {
	/** Undefined: facts about the agent itself. */
	readonly taskId: string | undefined;
	readonly facts: Fact[];
}

function groupByTask(facts: readonly Fact[]): Iterable<TaskFacts> {
	const groups = new Map<string, TaskFacts>();
	for (const fact of facts) {
		const taskId = taskOf(fact);
		const group = groups.get(taskId ?? '');
		if (group === undefined) groups.set(taskId ?? '', { taskId, facts: [fact] });
		else group.facts.push(fact);
	}
	return groups.values();
}

/** Undefined: a fact about the agent or its node. */
function taskOf({ fact }: Fact): string | undefined {
	return fact.value !== undefined && 'taskId' in fact.value ? fact.value.taskId : undefined;
}

/** Throws SESSION_SUPERSEDED. */
export function currentFence(node: NodeFence | undefined, source: FactSource): NodeFence {
	if (node !== undefined && node.retiredAtMs === null && node.epoch === source.epoch) return node;
	throw new GpuaasError({
		code: 'ABORTED',
		reason: 'SESSION_SUPERSEDED',
		message: 'a newer session of this node took over: the agent sends these facts again on that one',
	});
}

function movedOn(taskId: string): GpuaasError {
	return new GpuaasError({
		code: 'ABORTED',
		reason: 'STORE_UNAVAILABLE',
		message: `task ${taskId} was changed at the same moment; nothing of this batch was recorded, send it again`,
	});
}

function bySeq(a: Fact, b: Fact): number {
	return a.seq < b.seq ? -1 : 1;
}

function* recordAgentAudit(
	tx: Tx,
	ctx: RequestContext,
	node: NodeFence,
	batch: Batch,
	facts: readonly Fact[],
): Plan<void> {
	let recorded = 0;
	for (const { fact } of facts) {
		if (fact.case !== 'agentAudit') continue;
		if (recorded === batch.audit.recorded) return;
		recorded += 1;
		yield* batch.appendAudit(tx, ctx, {
			action: `agent.${fact.value.action}`,
			target: `nodes/${node.id}`,
			result: 'ok',
			reason: '',
			custody: node.custody,
			detail: { said: fact.value.detail },
		});
	}
}

function* auditSuppressed(tx: Tx, ctx: RequestContext, node: NodeFence, batch: Batch): Plan<void> {
	yield* batch.appendAudit(tx, ctx, {
		action: 'agent.audit_suppressed',
		target: `nodes/${node.id}`,
		result: 'denied',
		reason: 'RATE_LIMITED',
		custody: node.custody,
		detail: { facts: batch.audit.suppressed },
	});
}

function* auditRefused(tx: Tx, ctx: RequestContext, node: NodeFence, batch: Batch, counts: RefusedCounts): Plan<void> {
	yield* batch.appendAudit(tx, ctx, {
		action: 'agent.facts_refused',
		target: `nodes/${node.id}`,
		result: 'denied',
		reason: 'RATE_LIMITED',
		custody: node.custody,
		detail: { health: counts.health ?? 0, inventory: counts.inventory ?? 0 },
	});
}

function* auditInvalid(tx: Tx, ctx: RequestContext, node: NodeFence, batch: Batch, task: TaskRow): Plan<void> {
	yield* batch.appendAudit(tx, ctx, {
		action: 'tasks.receipt',
		target: `tasks/${task.id}`,
		result: 'denied',
		reason: 'RECEIPT_INVALID',
		custody: node.custody,
		detail: { node: node.id, attempt: task.attempt, message: task.message },
	});
}

function* auditSuperseded(
	tx: Tx,
	ctx: RequestContext,
	node: NodeFence,
	batch: Batch,
	before: TaskRow,
	after: TaskRow,
): Plan<void> {
	if (after.state === 'lost' && before.reason === after.reason) return;
	yield* batch.appendAudit(tx, ctx, {
		action: 'tasks.supersede',
		target: `tasks/${after.id}`,
		result: 'ok',
		reason: '',
		custody: node.custody,
		detail: { node: node.id, attempt: after.attempt, from: `lost (${before.reason})`, to: after.state },
	});
}
