import type { Tx } from '../../store/port/store.ts';
import type { TaskRow } from '../../store/port/tasks.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AppDeps } from '../deps.ts';
import { CANCEL_GRACE_DEFAULT_MS, sendCancel } from './cancel.ts';
import { applyEndings, type Ending, type PreparedEnding, prepareEndings } from './end-tasks.ts';

/**
 * Stops many tasks for a reason that is not their owner's wish: the assignment ended, the node is drained. Queued ones
 * end at once; the others are told to stop and end by their receipts.
 */
export interface Stopped {
	readonly ended: readonly TaskRow[];
	readonly cancelling: readonly TaskRow[];
	/** Of `cancelling`; the rows of `ended` were written with their endings. */
	readonly events: readonly { readonly topic: string; readonly key: string }[];
	/** After the commit. */
	send(deps: Pick<AppDeps, 'sessions' | 'bus'>, reason: string): void;
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

/** A queued task without a closing is left to the next look of whoever calls. */
export function* stopTasks(
	tx: Tx,
	open: readonly TaskRow[],
	endings: readonly PreparedEnding[],
	nowMs: number,
): Plan<Stopped> {
	const ended = yield* applyEndings(tx, endings);
	const cancelling: TaskRow[] = [];
	for (const task of open) {
		if (task.state === 'queued') continue;
		const row = yield* tx.tasks.update(
			task.id,
			{
				state: 'cancelling',
				cancelRequestedAtMs: task.cancelRequestedAtMs ?? nowMs,
				cancelGraceMs: task.cancelGraceMs ?? CANCEL_GRACE_DEFAULT_MS,
			},
			['leased', 'running', 'cancelling'],
		);
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
