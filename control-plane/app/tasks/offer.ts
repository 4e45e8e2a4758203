import type { RequestContext } from '../../context.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { TaskRow } from '../../store/port/tasks.ts';
import type { AppDeps } from '../deps.ts';
import { CANCEL_GRACE_DEFAULT_MS } from './cancel.ts';
import { type Ending, endTasks } from './end-tasks.ts';
import { type SignedEnvelope, signEnvelope } from './envelope.ts';

/**
 * From the queue to the wire: claim (one unit for many nodes), sign, store the documents (one unit), and only then
 * offer. A crash between the units leaves claimed tasks without documents: `resend` signs those again for the same
 * attempt and token, which is safe because nobody was offered them. Called by the dispatch reconciler.
 */
export interface ClaimWant {
	readonly nodeId: string;
	/** At most so many more on the way. */
	readonly limit: number;
}

export interface ClaimResult {
	readonly nodeId: string;
	/** As many as asked for were there: look again when there is room. */
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
	const claims = await deps.store.unit(function* (tx) {
		const found: { node: NodeRow; want: ClaimWant; rows: readonly TaskRow[] }[] = [];
		for (const want of wants) {
			const node = yield* tx.nodes.get(want.nodeId);
			if (node === undefined || node.retiredAtMs !== null || node.locked) continue;
			const rows = yield* tx.tasks.claim(want.nodeId, want.limit, nowMs + deps.limits.offerLeaseMs);
			if (rows.length > 0) found.push({ node, want, rows });
		}
		return found;
	});
	const unfit: TaskRow[] = [];
	const fit = claims.map(({ node, want, rows }) => {
		const leased = rows.filter((row) => unfitness(row, node, nowMs) === undefined);
		unfit.push(...rows.filter((row) => !leased.includes(row)));
		return { node, leased, isFull: rows.length >= want.limit };
	});
	const nodes = new Map(claims.map(({ node }) => [node.id, node]));
	await endTasks(deps, unfit, (row) => endingOf(row, nodes.get(row.nodeId), nowMs));
	const envelopes = await signAll(
		deps,
		fit.flatMap(({ node, leased }) => leased.map((task) => ({ task, generation: node.generation }))),
		nowMs,
	);
	return fit.map(({ node, leased, isFull }) => {
		onLeased(
			node.id,
			leased.map(({ id }) => id),
		);
		let isSent = true;
		for (const task of leased) isSent = send(deps, task, envelopes.get(task.id)) && isSent;
		if (!isSent) ctx.log.debug('offers wait for room on the link', { node: node.id });
		return { nodeId: node.id, isFull, isSent };
	});
}

/** What must be on the wire of a node that has just connected, or whose offers were not taken: the same bytes again. */
export async function resend(
	deps: AppDeps,
	nodeId: string,
): Promise<{ readonly leased: readonly string[]; readonly isSent: boolean }> {
	const nowMs = deps.clock.now();
	const { node, open, documents } = await deps.store.read(function* (tx) {
		const row = yield* tx.nodes.get(nodeId);
		const active = yield* tx.tasks.listActive(nodeId, deps.limits.tasksOpenPerNodeMax);
		const known = new Map<string, Uint8Array | null>();
		for (const task of active) {
			// A cancelling one too: the cancel of an attempt that was never seen can't be answered with certainty.
			if ((task.state !== 'leased' && task.state !== 'cancelling') || task.acceptedAtMs !== null) continue;
			const stored = yield* tx.tasks.getDocuments(task.id, task.attempt);
			known.set(task.id, stored?.envelope ?? null);
		}
		return { node: row, open: active, documents: known };
	});
	if (node === undefined) return { leased: [], isSent: true };
	const unsigned = open.filter((task) => documents.get(task.id) === null);
	const signed = await signAll(
		deps,
		unsigned.map((task) => ({ task, generation: node.generation })),
		nowMs,
	);
	let isSent = true;
	for (const task of open) {
		const stored = documents.get(task.id);
		const envelope = stored ? { envelope: stored } : signed.get(task.id);
		if (envelope !== undefined) isSent = send(deps, task, envelope) && isSent;
		if (task.state === 'cancelling') isSent = sendCancel(deps, task) && isSent;
	}
	return { leased: open.filter((task) => task.state === 'leased').map((task) => task.id), isSent };
}

/** Tells the agent to stop a task in state cancelling. */
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

/** Why a claimed task may not go out after all. */
function unfitness(row: TaskRow, node: NodeRow, nowMs: number): 'QUEUE_TIMEOUT' | 'NODE_IN_TENANT_CUSTODY' | undefined {
	if (row.queueDeadlineMs <= nowMs) return 'QUEUE_TIMEOUT';
	// A host in a tenant's hands gets the tenant's own tasks only, and a host on its way between hands gets none.
	const isTenants = node.custody === 'tenant' && row.assignmentId !== null;
	return node.custody === 'platform' || isTenants ? undefined : 'NODE_IN_TENANT_CUSTODY';
}

function endingOf(row: TaskRow, node: NodeRow | undefined, nowMs: number): Ending {
	if (node === undefined || unfitness(row, node, nowMs) === 'QUEUE_TIMEOUT') return queueTimeout(row, nowMs);
	return {
		state: 'cancelled',
		reason: 'NODE_IN_TENANT_CUSTODY',
		message: `node ${node.name} is in ${node.custody} custody, where it gets no task of the platform; nothing was started`,
	};
}

export function queueTimeout(row: TaskRow, nowMs: number): Ending {
	const waitedS = Math.round((nowMs - row.createdAtMs) / 1000);
	return {
		state: 'timed_out',
		reason: 'QUEUE_TIMEOUT',
		message: `the task waited ${waitedS} s for its node and nothing was started; see whether the node is connected, or give a longer queue timeout`,
	};
}
