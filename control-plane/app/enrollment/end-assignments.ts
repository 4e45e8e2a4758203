import { uuidv7 } from '../../../kit/ids.ts';
import type { AssignmentRow } from '../../store/port/assignments.ts';
import type { NodePatch } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AppDeps } from '../deps.ts';
import { giveBackAssignment } from '../nodes/assignment-terms.ts';
import type { PreparedEnding } from '../tasks/end-tasks.ts';
import { prepareStop, type Stopped, stopTasks, tasksUnder } from '../tasks/stop-tasks.ts';

/**
 * A reimaged machine is not the one that was assigned: its open assignments end with the image that they were made
 * for, and their tasks with them, in the unit that takes the node over. Queued ones end at once; those that the old
 * image may run are told to stop, and are lost when the new agent doesn't know them. Called by complete-with-token.ts.
 */
const END = {
	state: 'cancelled',
	reason: 'ASSIGNMENT_ENDED',
	message: 'its node was enrolled again, which ended the assignment that it was made under',
} as const;

/** Closings for the tasks that wait; nothing is written. */
export async function prepareEnd(deps: AppDeps, nodeId: string): Promise<readonly PreparedEnding[]> {
	const open = await deps.store.read(function* (tx) {
		const tasks = [];
		for (const { id } of yield* tx.assignments.openOfNodes([nodeId]))
			tasks.push(...(yield* tx.tasks.listOpenByAssignment(id, deps.limits.tasksOpenPerNodeMax)));
		return tasks;
	});
	return await prepareStop(deps, open, END);
}

export interface EndedAssignments {
	readonly closed: readonly AssignmentRow[];
	/** For the node: after host mode nobody knows what the tenant left on the machine, as with UnassignNode. */
	readonly patch: NodePatch;
	/** After the commit. */
	announce(deps: AppDeps): void;
}

export function* endAssignments(
	tx: Tx,
	deps: AppDeps,
	nodeId: string,
	endings: readonly PreparedEnding[],
	nowMs: number,
): Plan<EndedAssignments> {
	const closed: AssignmentRow[] = [];
	const stops: Stopped[] = [];
	for (const { id } of yield* tx.assignments.openOfNodes([nodeId])) {
		const row = yield* tx.assignments.close(id, nowMs);
		if (row === undefined) continue;
		closed.push(row);
		const open = yield* tasksUnder(tx, row, deps.limits.tasksOpenPerNodeMax, nowMs);
		const own = endings.filter(({ task }) => task.assignmentId === id);
		const stopped = yield* stopTasks(tx, open, own, nowMs);
		stops.push(stopped);
		for (const { topic, key } of [{ topic: 'assignments.ended', key: id }, ...stopped.events])
			yield* tx.outbox.append({ id: uuidv7(nowMs, deps.rng), topic, key, atMs: nowMs });
	}
	yield* giveBackAssignment(
		tx,
		closed.map(({ id }) => id),
	);
	return {
		closed,
		patch: closed.some(({ mode }) => mode === 'host') ? { custody: 'transit' } : {},
		announce({ bus, sessions }) {
			for (const { id } of closed) bus.publish({ topic: 'assignments.ended', key: id });
			for (const stopped of stops) stopped.send({ bus, sessions }, END.reason);
		},
	};
}
