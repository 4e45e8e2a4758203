import { create } from '@bufbuild/protobuf';
import { ListTaskOutputResponseSchema, TaskService } from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { query } from '../use-case.ts';
import { chunkMessage, isOutputOver } from './view.ts';

const BYTES_DEFAULT = 256 * 1024;

/** A page of output from an offset: the twin of follow for clients that can't stream. */
export const listTaskOutput = query('task', TaskService.method.listTaskOutput, {
	*read(_tx, _call, { task }) {
		return task;
	},
	async answer({ deps, request }, task) {
		const offset = Number(request.offset);
		const bytesMax = request.bytesMax === 0 ? BYTES_DEFAULT : request.bytesMax;
		const chunks = await deps.output.read(task.id, task.attempt, offset, bytesMax);
		const last = chunks.at(-1);
		const nextOffset = last === undefined ? offset : last.offset + last.data.length;
		// The row was read first: output that it calls complete is all there.
		const stored = await deps.output.storedOffset(task.id, task.attempt);
		return create(ListTaskOutputResponseSchema, {
			chunks: chunks.map(chunkMessage),
			nextOffset: BigInt(nextOffset),
			complete: isOutputOver(task) && nextOffset >= stored,
		});
	},
});
