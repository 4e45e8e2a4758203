import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { CancelTaskResponseSchema, TaskService } from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { TaskRow } from '../../store/port/tasks.ts';
import type { AuditEvent } from '../audit/event.ts';
import type { AppDeps } from '../deps.ts';
import { nodeName as nameOfNode } from '../nodes/name.ts';
import { type Change, mutation } from '../use-case.ts';
import { msFromDuration } from '../wire/time.ts';
import { applyEndings, prepareEndings } from './end-tasks.ts';
import { isEnded, taskMessage } from './view.ts';

export const CANCEL_GRACE_DEFAULT_MS = 10_000;

/**
 * A queued task is cancelled at once, with a closing signed by the server; one that the agent has may still end in any
 * way, so it becomes `cancelling` and its receipt says how. One that is lost with its node may run there still: it is told
 * to stop, now or when the node is back, and stays lost until then. Cancelling again or too late changes nothing.
 */
export const cancelTask = mutation('task', TaskService.method.cancelTask, {
	async prepare({ deps }, { task }) {
		if (task.state !== 'queued') return [];
		const message = 'cancelled while it waited; nothing was started';
		return await prepareEndings(deps, [task], { state: 'cancelled', reason: 'CANCELLED', message });
	},
	*apply(tx, call, { task }, endings) {
		const { deps, request, nowMs } = call;
		const nodeName = yield* nameOfNode(tx, task.nodeId);
		if (isEnded(task.state) && !isUnanswered(task)) return change(task, nodeName, 'TASK_ENDED');
		if (task.state === 'queued') {
			const [ended] = yield* applyEndings(tx, endings);
			if (ended === undefined) throw movedOn();
			// The outbox row came with the ending; this is its hint.
			return {
				...change(ended, nodeName, ''),
				effects: () => deps.bus.publish({ topic: 'tasks.changed', key: task.id }),
			};
		}
		// Once told, a task can be given less time, not more: whoever told it first may need the node.
		const asked = msFromDuration(request.grace) ?? CANCEL_GRACE_DEFAULT_MS;
		const graceMs = Math.min(asked, (task.cancelRequestedAtMs === null ? null : task.cancelGraceMs) ?? asked);
		const cancelling = yield* tx.tasks.update(
			task.id,
			{
				state: task.state === 'lost' ? 'lost' : 'cancelling',
				cancelRequestedAtMs: task.cancelRequestedAtMs ?? nowMs,
				cancelGraceMs: graceMs,
			},
			task.state === 'lost' ? ['lost'] : ['leased', 'running', 'cancelling'],
		);
		if (cancelling === undefined) throw movedOn();
		return {
			...change(cancelling, nodeName, ''),
			events: [{ topic: 'tasks.changed', key: task.id }],
			effects: () => sendCancel(deps, cancelling, 'CANCELLED'),
		};
	},
});

/** A hint to the live session; the dispatch reconciler sends it again when a session opens. */
export function sendCancel(deps: Pick<AppDeps, 'sessions'>, task: TaskRow, reason: string): void {
	deps.sessions.cancel(task.nodeId, {
		taskId: task.id,
		attempt: task.attempt,
		fencingToken: task.fencingToken,
		graceMs: task.cancelGraceMs ?? CANCEL_GRACE_DEFAULT_MS,
		reason,
		correlationId: task.correlationId,
	});
}

/** As listUnanswered of store/port/tasks.ts. */
function isUnanswered({ state, reason }: TaskRow): boolean {
	return state === 'lost' && reason === 'LEASE_LOST';
}

function change(
	row: TaskRow,
	nodeName: string,
	reason: string,
): Change<ReturnType<typeof create<typeof CancelTaskResponseSchema>>> {
	const audit: AuditEvent = {
		action: 'tasks.cancel',
		target: `tasks/${row.id}`,
		result: 'ok',
		reason,
		detail: { node: row.nodeId, state: row.state },
		...(row.organization === null ? {} : { organization: row.organization }),
	};
	return { response: create(CancelTaskResponseSchema, { task: taskMessage(row, nodeName) }), audit };
}

/** Between prepare and the unit the task was claimed, or came back: rare, and the caller's next try sees it as it is. */
function movedOn(): GpuaasError {
	return new GpuaasError({
		code: 'ABORTED',
		reason: 'TASK_STATE_CHANGED',
		message: 'the task changed state while it was being cancelled; nothing was done. Cancel it again',
		metadata: { 'retry-after': '0' },
	});
}
