import { create, fromBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { AssignmentRefSchema } from '../../../proto/gen/gpuaas/common/v1/types_pb.ts';
import {
	type OutputChunk as ChunkMessage,
	OutputChunkSchema,
	OutputStream,
	type Task,
	TaskSchema,
	type TaskSpec,
	TaskSpecSchema,
	TaskState,
} from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { type TaskState as RowState, TASK_STATES_OPEN, type TaskRow } from '../../store/port/tasks.ts';
import { CUSTODY } from '../wire/node.ts';
import { redactSecrets } from '../wire/redact-secrets.ts';
import { durationFromMs } from '../wire/time.ts';
import type { OutputChunk } from './output-store.ts';

/** Task rows and output as messages. */
const STATE: Readonly<Record<RowState, TaskState>> = {
	queued: TaskState.QUEUED,
	leased: TaskState.LEASED,
	running: TaskState.RUNNING,
	cancelling: TaskState.CANCELLING,
	succeeded: TaskState.SUCCEEDED,
	failed: TaskState.FAILED,
	cancelled: TaskState.CANCELLED,
	timed_out: TaskState.TIMED_OUT,
	lost: TaskState.LOST,
	refused: TaskState.REFUSED,
};

const ROW_STATE = new Map(Object.entries(STATE).map(([row, message]) => [message, row as RowState]));

/** Undefined for a number that this version doesn't know. */
export function rowStateOf(state: TaskState): RowState | undefined {
	return ROW_STATE.get(state);
}

export function isEnded(state: RowState): boolean {
	return !TASK_STATES_OPEN.includes(state);
}

/**
 * Nothing more will come to the output store: all of it is there, or no program was started, or nobody can say whether
 * its host will ever send the rest.
 */
export function isOutputOver(row: TaskRow): boolean {
	return isEnded(row.state) && (row.outputComplete || row.startedAtMs === null || row.state === 'lost');
}

export function taskMessage(row: TaskRow, nodeName: string): Task {
	return create(TaskSchema, {
		id: row.id,
		nodeId: row.nodeId,
		nodeName,
		state: STATE[row.state],
		spec: shownSpec(row.spec),
		createdBy: row.createdBy,
		attempt: row.attempt,
		maxAttempts: row.attemptsMax,
		timeout: durationFromMs(row.timeoutMs),
		createdAt: timestampFromMs(row.createdAtMs),
		reason: row.reason,
		message: row.message,
		outputBytes: BigInt(row.outputBytes),
		outputDroppedBytes: BigInt(row.outputDroppedBytes),
		custody: CUSTODY[row.custody],
		limitsEnforcedBy: row.limitsEnforcedBy,
		batchId: row.batchId,
		correlationId: row.correlationId,
		cancelRequested: row.cancelRequestedAtMs !== null,
		...(row.startedAtMs === null ? {} : { startedAt: timestampFromMs(row.startedAtMs) }),
		...(row.endedAtMs === null ? {} : { endedAt: timestampFromMs(row.endedAtMs) }),
		...(row.exitCode === null ? {} : { exitCode: row.exitCode }),
		...(row.signal === null ? {} : { signal: row.signal }),
		...(row.assignmentId === null
			? {}
			: {
					assignment: create(AssignmentRefSchema, {
						assignmentId: row.assignmentId,
						organization: row.organization ?? '',
						project: row.project ?? '',
						generation: row.generation,
					}),
				}),
	});
}

/** Only the node that runs it needs what is secret in it: answers and their stored copies hold none. */
function shownSpec(bytes: Uint8Array): TaskSpec {
	const spec = fromBinary(TaskSpecSchema, bytes);
	redactSecrets(TaskSpecSchema, spec);
	return spec;
}

export function chunkMessage(chunk: OutputChunk): ChunkMessage {
	return create(OutputChunkSchema, {
		offset: BigInt(chunk.offset),
		stream: chunk.stream === 'stdout' ? OutputStream.STDOUT : OutputStream.STDERR,
		// The generated type wants a view on a plain ArrayBuffer; the store may give one on a pooled Buffer.
		data: new Uint8Array(chunk.data),
		droppedBytes: BigInt(chunk.droppedBytes),
	});
}
