import { create, toBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { uuidv7 } from '../../../kit/ids.ts';
import { TASK_CLOSING_TYPE } from '../../../pki/verify/task.ts';
import { TaskClosingSchema } from '../../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import { TaskState } from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { Tx } from '../../store/port/store.ts';
import type { TaskRow } from '../../store/port/tasks.ts';
import { asPlatform, type Plan } from '../../store/port/unit.ts';
import type { AppDeps } from '../deps.ts';
import { releaseTasks } from './release-tasks.ts';

/**
 * Ends that the server gives without a receipt of the agent: cancelled in the queue, expired, lost, node removed,
 * assignment ended. Each carries a TaskClosing signed by the task-signing key. Two halves, so that a use case can end
 * tasks inside its own unit: `prepareEndings` signs (no database), `applyEndings` writes what still fits, with its
 * outbox rows. `endTasks` does both in a unit of its own.
 */
export interface Ending {
	readonly state: 'cancelled' | 'timed_out' | 'lost' | 'refused';
	/** A value of common.v1.Reason without its prefix. */
	readonly reason: string;
	readonly message: string;
}

export interface PreparedEnding extends Ending {
	/** As it was when the closing was signed; a task that moved on since isn't ended. */
	readonly task: TaskRow;
	/** DSSE, binary. */
	readonly closing: Uint8Array;
	readonly signerCertificate: Uint8Array;
	readonly outboxId: string;
	readonly atMs: number;
}

const STATE = {
	cancelled: TaskState.CANCELLED,
	timed_out: TaskState.TIMED_OUT,
	lost: TaskState.LOST,
	refused: TaskState.REFUSED,
} as const;

export function prepareEndings(
	deps: Pick<AppDeps, 'authority' | 'clock' | 'rng'>,
	tasks: readonly TaskRow[],
	ending: Ending | ((task: TaskRow) => Ending),
): Promise<readonly PreparedEnding[]> {
	const atMs = deps.clock.now();
	return Promise.all(
		tasks.map(async (task) => {
			const given = typeof ending === 'function' ? ending(task) : ending;
			const payload = toBinary(
				TaskClosingSchema,
				create(TaskClosingSchema, {
					taskId: task.id,
					nodeId: task.nodeId,
					attempt: task.attempt,
					state: STATE[given.state],
					reason: given.reason,
					closedAt: timestampFromMs(atMs),
				}),
			);
			const signed = await deps.authority.signTaskDocument(TASK_CLOSING_TYPE, payload);
			return {
				...given,
				task,
				closing: signed.envelope,
				signerCertificate: signed.signerCertificate,
				outboxId: uuidv7(atMs, deps.rng),
				atMs,
			};
		}),
	);
}

/**
 * In a unit: ends the tasks that are still as they were when their closings were signed, and returns them as they are
 * now. After the commit the caller publishes `tasks.changed` for each.
 */
export function* applyEndings(tx: Tx, prepared: readonly PreparedEnding[]): Plan<readonly TaskRow[]> {
	const ended: TaskRow[] = [];
	for (const ending of prepared) {
		const row = yield* applyEnding(tx, ending);
		if (row === undefined) continue;
		ended.push(row);
		yield* asPlatform(
			tx.outbox.append({ id: ending.outboxId, topic: 'tasks.changed', key: row.id, atMs: ending.atMs }),
		);
	}
	yield* releaseTasks(tx, ended);
	return ended;
}

function* applyEnding(tx: Tx, ending: PreparedEnding): Plan<TaskRow | undefined> {
	const { task, state, reason, message, atMs, closing, signerCertificate } = ending;
	const now = yield* tx.tasks.get(task.id);
	if (now === undefined || now.state !== task.state || now.attempt !== task.attempt) return undefined;
	const ended = yield* tx.tasks.update(
		task.id,
		{
			state,
			reason,
			message,
			endedAtMs: atMs,
			leaseUntilMs: null,
			// Nothing was started, so nothing was written; the output of a lost task may still come.
			...(state !== 'lost' && { outputComplete: true }),
		},
		[task.state],
	);
	if (ended === undefined) return undefined;
	// What the platform signs about a task, also when its tenant asked for the end.
	yield* asPlatform(tx.tasks.putDocuments({ taskId: task.id, attempt: task.attempt, closing, signerCertificate }));
	return ended;
}

/** Both halves in a unit of their own; publishes, and returns what was ended. */
export async function endTasks(
	deps: AppDeps,
	tasks: readonly TaskRow[],
	ending: Ending | ((task: TaskRow) => Ending),
): Promise<readonly TaskRow[]> {
	if (tasks.length === 0) return [];
	const prepared = await prepareEndings(deps, tasks, ending);
	const ended = await deps.store.unit((tx) => applyEndings(tx, prepared));
	for (const { id } of ended) deps.bus.publish({ topic: 'tasks.changed', key: id });
	return ended;
}
