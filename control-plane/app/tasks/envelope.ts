import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { durationFromMs, timestampFromMs } from '@bufbuild/protobuf/wkt';
import { TASK_ENVELOPE_TYPE } from '../../../pki/verify/task.ts';
import { TaskEnvelopeSchema } from '../../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import { TaskSpecSchema } from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { TaskDocumentsRow, TaskRow } from '../../store/port/tasks.ts';
import type { AppDeps } from '../deps.ts';

/** The signed order of one attempt, ready to be stored and then sent. */
export type SignedEnvelope = Pick<TaskDocumentsRow, 'taskId' | 'attempt'> & {
	readonly envelope: Uint8Array;
	readonly signerCertificate: Uint8Array;
};

/** Signs what a claimed task asks of its node. `generation` is the node's now: no other image may run it. */
export async function signEnvelope(
	deps: AppDeps,
	task: TaskRow,
	generation: number,
	nowMs: number,
): Promise<SignedEnvelope> {
	const payload = envelopePayload(task, generation, nowMs, deps.limits.envelopeTtlMs);
	const { envelope, signerCertificate } = await deps.authority.signTaskDocument(TASK_ENVELOPE_TYPE, payload);
	return { taskId: task.id, attempt: task.attempt, envelope, signerCertificate };
}

function envelopePayload(task: TaskRow, generation: number, nowMs: number, ttlMs: number): Uint8Array {
	const { organization, project, assignmentId } = task;
	return toBinary(
		TaskEnvelopeSchema,
		create(TaskEnvelopeSchema, {
			taskId: task.id,
			nodeId: task.nodeId,
			generation,
			attempt: task.attempt,
			fencingToken: BigInt(task.fencingToken),
			notBefore: timestampFromMs(nowMs),
			notAfter: timestampFromMs(nowMs + ttlMs),
			spec: fromBinary(TaskSpecSchema, task.spec),
			timeout: durationFromMs(task.timeoutMs),
			outputBytesMax: BigInt(task.outputBytesMax),
			correlationId: task.correlationId,
			createdBy: task.createdBy,
			...(assignmentId !== null && {
				assignment: {
					assignmentId,
					organization: organization ?? '',
					project: project ?? '',
					generation: task.generation,
				},
			}),
		}),
	);
}
