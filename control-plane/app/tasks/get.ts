import { create } from '@bufbuild/protobuf';
import { GetTaskResponseSchema, TaskService } from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { nodeName as nameOfNode } from '../nodes/name.ts';
import { query } from '../use-case.ts';
import { taskMessage } from './view.ts';

export const getTask = query('task', TaskService.method.getTask, {
	*read(tx, _call, { task }) {
		return { task, nodeName: yield* nameOfNode(tx, task.nodeId) };
	},
	answer: (_call, { task, nodeName }) => create(GetTaskResponseSchema, { task: taskMessage(task, nodeName) }),
});
