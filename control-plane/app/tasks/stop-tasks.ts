import type { AssignmentRow } from '../../store/port/assignments.ts';
import type { Tx } from '../../store/port/store.ts';
import type { TaskRow } from '../../store/port/tasks.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AppDeps } from '../deps.ts';
import { CANCEL_GRACE_DEFAULT_MS, sendCancel } from './cancel.ts';
import { applyEndings, type Ending, type PreparedEnding, prepareEndings } from './end-tasks.ts';

/**
 * Stops many tasks for a reason that is not their owner's wish: the assignment ended, the node is drained. Queued ones
 * end at once; the others are told to stop and end by their receipts. One that is called lost because its node wasn't
 * heard of may run there still: it is told too, now and whenever its node comes back (tasks/offer.ts), and stays lost until
 * its receipt comes.
 */
export interface Stopped {
	readonly ended: readonly TaskRow[];
	readonly cancelling: readonly TaskRow[];
	/** Of `cancelling`; the rows of `ended` were written with their endings. */
	readonly events: readonly { readonly topic: string; readonly key: string }[];
	/** After the commit. */
	send(deps: Pick<AppDeps, 'sessions' | 'bus'>, reason: string): void;
}

/** All that an assignment may still have on its node. */
export function* tasksUnder(
	tx: Tx,
	{ id, nodeId }: Pick<AssignmentRow, 'id' | 'nodeId'>,
	countMax: number,
	nowMs: number,
): Plan<readonly TaskRow[]> {
	// In this order: one that is called lost in between is found, twice at most.
	const open = yield* tx.tasks.listOpenByAssignment(id, countMax);
	const unanswered = yield* tx.tasks.listUnanswered(nodeId, nowMs, countMax);
	const all = [...open, ...unanswered.filter(({ assignmentId }) => assignmentId === id)];
	return [...new Map(all.map((task) => [task.id, task])).values()];
}

/** Closings for those that are still queued. */
export async function prepareStop(
	deps: AppDeps,
	open: readonly TaskRow[],
	ending: Ending,
): Promise<readonly PreparedEnding[]> {
	const queued = open.filter((task) => task.state === 'queued');
	return await prepareEndings(deps, queued, ending);
}

/**
 * A queued task without a closing came since the look outside the unit: no claim takes it any more, and the next look of
 * reconcilers/expiry.ts ends it.
 */
export function* stopTasks(
	tx: Tx,
	open: readonly TaskRow[],
	endings: readonly PreparedEnding[],
	nowMs: number,
): Plan<Stopped> {
	const ended = yield* applyEndings(tx, endings);
	const cancelling: TaskRow[] = [];
	for (const task of open) {
		const cancelRequestedAtMs = task.cancelRequestedAtMs ?? nowMs;
		if (task.state === 'queued') {
			yield* tx.tasks.change(task.id, { cancelRequestedAtMs, queueDeadlineMs: nowMs }, ['queued']);
			continue;
		}
		const told = { state: 'cancelling' as const, cancelRequestedAtMs, cancelGraceMs: graceOf(task) };
		// Called lost since it was read, it stays so: it has ended for its owner, and its place is another's.
		const row =
			(yield* tx.tasks.update(task.id, told, ['leased', 'running', 'cancelling'])) ??
			(yield* tx.tasks.update(task.id, { cancelRequestedAtMs, cancelGraceMs: 0 }, ['lost']));
		if (row !== undefined) cancelling.push(row);
	}
	return {
		ended,
		cancelling,
		events: cancelling.map(({ id }) => ({ topic: 'tasks.changed', key: id })),
		send(deps, reason) {
			for (const { id } of ended) deps.bus.publish({ topic: 'tasks.changed', key: id });
			for (const task of cancelling) sendCancel(deps, task, reason);
		},
	};
}

/** Its owner may have given it an hour: that long nobody else waits for the node. */
function graceOf({ cancelGraceMs }: TaskRow): number {
	return Math.min(cancelGraceMs ?? CANCEL_GRACE_DEFAULT_MS, CANCEL_GRACE_DEFAULT_MS);
}
