import type { RequestContext } from '../../context.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { TaskRow } from '../../store/port/tasks.ts';
import type { AppDeps } from '../deps.ts';
import { CANCEL_GRACE_DEFAULT_MS } from './cancel.ts';
import { type Ending, endTasks } from './end-tasks.ts';
import { type SignedEnvelope, signEnvelope } from './envelope.ts';

/**
 * From the queue to the wire: read what is queued, sign it as it will be once claimed, then claim and store the
 * documents in one unit for many nodes, and only then offer. So a claimed task always has its envelope, and a crash
 * after the unit leads to the same bytes again (`resend`). What was signed for a node or a task that changed meanwhile
 * is thrown away and looked at again: nobody saw it. Called by the dispatch reconciler.
 */
export interface ClaimWant {
	readonly nodeId: string;
	/** At most so many more on the way. */
	readonly limit: number;
}

export interface ClaimResult {
	readonly nodeId: string;
	/** There may be more: as many as asked for were there, or some changed meanwhile. Look again when there is room. */
	readonly isFull: boolean;
	/** The session took all of them. */
	readonly isSent: boolean;
}

export async function offerQueued(
	deps: AppDeps,
	ctx: RequestContext,
	wants: readonly ClaimWant[],
	/** Before anything is sent, so that an answer never comes to a task that wasn't counted. */
	onLeased: (nodeId: string, taskIds: readonly string[]) => void = () => {},
): Promise<readonly ClaimResult[]> {
	const nowMs = deps.clock.now();
	const queues = await readQueues(deps, wants);
	const unfit = queues.flatMap(({ node, rows }) => rows.filter((row) => unfitness(row, node, nowMs) !== undefined));
	const nodes = new Map(queues.map(({ node }) => [node.id, node]));
	await endTasks(deps, unfit, (row) => endingOf(row, nodes.get(row.nodeId), nowMs));
	const claims = await claimSigned(
		deps,
		await Promise.all(
			queues.map(({ node, rows }) => {
				const fit = rows.filter((row) => unfitness(row, node, nowMs) === undefined);
				return signClaim(deps, node, fit, nowMs);
			}),
		),
		nowMs,
	);
	const byNode = new Map(claims.map((claim) => [claim.node.id, claim]));
	return queues.map(({ node, rows, limit }) => {
		const { offers = [], claimed } = byNode.get(node.id) ?? {};
		const leased = offers.filter(({ task }) => claimed?.has(task.id));
		onLeased(
			node.id,
			leased.map(({ task }) => task.id),
		);
		let isSent = true;
		for (const { task, signed } of leased) isSent = send(deps, task, signed) && isSent;
		if (!isSent) ctx.log.debug('offers wait for room on the link', { node: node.id });
		return { nodeId: node.id, isFull: rows.length >= limit || leased.length < offers.length, isSent };
	});
}

interface Queue {
	readonly node: NodeRow;
	readonly rows: readonly TaskRow[];
	readonly limit: number;
}

function readQueues(deps: AppDeps, wants: readonly ClaimWant[]): Promise<readonly Queue[]> {
	return deps.store.read(function* (tx) {
		const queues: Queue[] = [];
		for (const { nodeId, limit } of wants) {
			const node = yield* tx.nodes.get(nodeId);
			if (node === undefined || node.retiredAtMs !== null || node.locked) continue;
			const rows = yield* tx.tasks.listQueued(nodeId, limit);
			if (rows.length > 0) queues.push({ node, rows, limit });
		}
		return queues;
	});
}

interface SignedClaim {
	readonly node: NodeRow;
	/** `task` as it will be once claimed. */
	readonly offers: readonly { readonly task: TaskRow; readonly signed: SignedEnvelope }[];
}

async function signClaim(deps: AppDeps, node: NodeRow, rows: readonly TaskRow[], nowMs: number): Promise<SignedClaim> {
	const offers = rows.map(async (row, index) => {
		const task = { ...row, attempt: row.attempt + 1, fencingToken: node.fencingSeq + 1 + index };
		return { task, signed: await signEnvelope(deps, task, node.generation, nowMs) };
	});
	return { node, offers: await Promise.all(offers) };
}

async function claimSigned(
	deps: AppDeps,
	signed: readonly SignedClaim[],
	nowMs: number,
): Promise<readonly (SignedClaim & { readonly claimed: ReadonlySet<string> })[]> {
	const wanted = signed.filter(({ offers }) => offers.length > 0);
	if (wanted.length === 0) return [];
	return await deps.store.unit(function* (tx) {
		const claims: (SignedClaim & { readonly claimed: ReadonlySet<string> })[] = [];
		for (const { node, offers } of wanted) {
			const queued = offers.map(({ task }) => ({ id: task.id, attempt: task.attempt - 1 }));
			const claimed = yield* tx.tasks.claim(node, queued, nowMs + deps.limits.offerLeaseMs);
			for (const { task, signed: documents } of offers)
				if (claimed.has(task.id)) yield* tx.tasks.putDocuments(documents);
			claims.push({ node, offers, claimed });
		}
		return claims;
	});
}

/**
 * What must be on the wire of a node that has just connected, or whose offers were not taken: the same bytes again. What
 * was told to stop and called lost is told first, with the time that it was given: none, where its assignment has ended.
 */
export async function resend(
	deps: AppDeps,
	nodeId: string,
): Promise<{ readonly leased: readonly string[]; readonly isSent: boolean }> {
	const nowMs = deps.clock.now();
	const { node, open, strays, documents } = await deps.store.read(function* (tx) {
		const row = yield* tx.nodes.get(nodeId);
		const active = yield* tx.tasks.listActive(nodeId, deps.limits.tasksOpenPerNodeMax);
		const unanswered = yield* tx.tasks.listUnanswered(nodeId, nowMs, deps.limits.tasksOpenPerNodeMax);
		const known = new Map<string, Uint8Array | null>();
		for (const task of active) {
			// A cancelling one too: the cancel of an attempt that was never seen can't be answered with certainty.
			if ((task.state !== 'leased' && task.state !== 'cancelling') || task.acceptedAtMs !== null) continue;
			const stored = yield* tx.tasks.getDocuments(task.id, task.attempt);
			known.set(task.id, stored?.envelope ?? null);
		}
		const told = unanswered.filter(({ cancelRequestedAtMs }) => cancelRequestedAtMs !== null);
		return { node: row, open: active, strays: told, documents: known };
	});
	if (node === undefined) return { leased: [], isSent: true };
	let isSent = true;
	for (const task of strays) isSent = sendCancel(deps, task) && isSent;
	const unsigned = open.filter((task) => documents.get(task.id) === null);
	const signed = await signAll(
		deps,
		unsigned.map((task) => ({ task, generation: node.generation })),
		nowMs,
	);
	for (const task of open) {
		const stored = documents.get(task.id);
		const envelope = stored ? { envelope: stored } : signed.get(task.id);
		if (envelope !== undefined) isSent = send(deps, task, envelope) && isSent;
		if (task.state === 'cancelling') isSent = sendCancel(deps, task) && isSent;
	}
	return { leased: open.filter((task) => task.state === 'leased').map((task) => task.id), isSent };
}

/** Tells the agent to stop a task that was cancelled. */
function sendCancel(deps: AppDeps, task: TaskRow): boolean {
	if (task.attempt === 0) return true;
	return deps.sessions.cancel(task.nodeId, {
		taskId: task.id,
		attempt: task.attempt,
		fencingToken: task.fencingToken,
		graceMs: task.cancelGraceMs ?? CANCEL_GRACE_DEFAULT_MS,
		reason: 'CANCELLED',
		correlationId: task.correlationId,
	});
}

function send(deps: AppDeps, task: TaskRow, signed: Pick<SignedEnvelope, 'envelope'> | undefined): boolean {
	if (signed === undefined) return true;
	const { id, attempt, correlationId } = task;
	return deps.sessions.offer(task.nodeId, { taskId: id, attempt, correlationId, envelope: signed.envelope });
}

async function signAll(
	deps: AppDeps,
	items: readonly { readonly task: TaskRow; readonly generation: number }[],
	nowMs: number,
): Promise<ReadonlyMap<string, SignedEnvelope>> {
	if (items.length === 0) return new Map();
	const signed = await Promise.all(items.map(({ task, generation }) => signEnvelope(deps, task, generation, nowMs)));
	await deps.store.unit(function* (tx) {
		for (const documents of signed) yield* tx.tasks.putDocuments(documents);
	});
	return new Map(signed.map((documents) => [documents.taskId, documents]));
}

/** Why a queued task may not go out after all. */
function unfitness(row: TaskRow, node: NodeRow, nowMs: number): 'QUEUE_OVER' | 'NODE_IN_TENANT_CUSTODY' | undefined {
	if (row.queueDeadlineMs <= nowMs) return 'QUEUE_OVER';
	// A host in a tenant's hands gets the tenant's own tasks only, and a host on its way between hands gets none.
	const isTenants = node.custody === 'tenant' && row.assignmentId !== null;
	return node.custody === 'platform' || isTenants ? undefined : 'NODE_IN_TENANT_CUSTODY';
}

function endingOf(row: TaskRow, node: NodeRow | undefined, nowMs: number): Ending {
	if (node === undefined || unfitness(row, node, nowMs) === 'QUEUE_OVER') return queueOver(row, nowMs);
	return {
		state: 'cancelled',
		reason: 'NODE_IN_TENANT_CUSTODY',
		message: `node ${node.name} is in ${node.custody} custody, where it gets no task of the platform; nothing was started`,
	};
}

export function queueOver(row: TaskRow, nowMs: number): Ending {
	if (row.cancelRequestedAtMs !== null) return { state: 'cancelled', reason: 'CANCELLED', message: STOPPED_WAITING };
	const waitedS = Math.round((nowMs - row.createdAtMs) / 1000);
	return {
		state: 'timed_out',
		reason: 'QUEUE_TIMEOUT',
		message: `the task waited ${waitedS} s for its node and nothing was started; see whether the node is connected, or give a longer queue timeout`,
	};
}

const STOPPED_WAITING =
	'the assignment that it was made under ended, or its node was drained, in the moment in which it was made; nothing was started';
