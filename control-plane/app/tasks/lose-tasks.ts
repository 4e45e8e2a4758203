import type { RequestContext } from '../../context.ts';
import type { TaskRow } from '../../store/port/tasks.ts';
import type { AppDeps } from '../deps.ts';
import { type Ending, endTasks } from './end-tasks.ts';

/**
 * Tasks that nobody can answer for any more. `lost` is honest and not final: the agent's signed receipt still replaces
 * it, and nothing is run again. A task that was offered and never accepted isn't lost: its envelope is sent again when
 * the node comes back, until its queue deadline (reconcilers/expiry.ts).
 */
const BATCH = 500;

/** The lease of the node ran out, or the node is being removed. Returns how many tasks were lost. */
export async function loseTasksOfNode(
	deps: AppDeps,
	ctx: RequestContext,
	nodeId: string,
	reason: 'LEASE_LOST' | 'NODE_REMOVED' = 'LEASE_LOST',
): Promise<number> {
	const active = await deps.store.read((tx) => tx.tasks.listActive(nodeId, deps.limits.tasksOpenPerNodeMax));
	const affected = active.filter((task) => reason === 'NODE_REMOVED' || isInAgentsHands(task));
	return await lose(deps, ctx, affected, reason, MESSAGE[reason]);
}

/**
 * Of a node's open tasks those that its agent once accepted and, by its Hello, doesn't know any more: its journal is
 * gone, and with it any receipt. What it never said to have accepted may be on its way, also to an agent that started
 * again: offer and cancel go out anew, and a journal that is new answers for what it can't know. `known` is what the
 * Hello listed; a full Hello proves nothing about what it left out.
 */
export function unknownAttempts(
	active: readonly TaskRow[],
	known: readonly { readonly taskId: string; readonly attempt: number }[],
): readonly TaskRow[] {
	if (known.length >= HELLO_ATTEMPTS_MAX) return [];
	const attempts = new Set(known.map(({ taskId, attempt }) => `${taskId}/${attempt}`));
	return active.filter((task) => task.acceptedAtMs !== null && !attempts.has(`${task.id}/${task.attempt}`));
}

export const JOURNAL_LOST: Ending = Object.freeze({
	state: 'lost',
	reason: 'JOURNAL_LOST',
	message:
		'the agent came back without its journal and knows nothing of this task: it may have run, and nothing of it was kept',
});

/** link.proto: Hello.attempts. */
const HELLO_ATTEMPTS_MAX = 2048;

const MESSAGE = {
	LEASE_LOST:
		'the node has not answered for longer than its lease; the task may still run there, and its receipt replaces this',
	NODE_REMOVED: 'the node was removed while the task was there; its end is not known',
} as const;

function isInAgentsHands(task: TaskRow): boolean {
	// A cancel may have reached it where the offer's acceptance has not come back.
	return task.acceptedAtMs !== null || task.startedAtMs !== null || task.state === 'cancelling';
}

async function lose(
	deps: AppDeps,
	ctx: RequestContext,
	tasks: readonly TaskRow[],
	reason: string,
	message: string,
): Promise<number> {
	let count = 0;
	for (let from = 0; from < tasks.length; from += BATCH) {
		const ended = await endTasks(deps, tasks.slice(from, from + BATCH), {
			state: 'lost',
			reason,
			message,
		});
		count += ended.length;
	}
	if (count > 0) ctx.log.warn('tasks were lost', { count, reason });
	return count;
}
