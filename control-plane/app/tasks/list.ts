import { create } from '@bufbuild/protobuf';
import {
	ListTasksRequestSchema,
	ListTasksResponseSchema,
	TaskService,
} from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { findNode } from '../iam/target.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { query } from '../use-case.ts';
import { rowStateOf, taskMessage } from './view.ts';

/** Newest first. Filtered by what the caller may get: by the assignment of each task, never by the node's holder. */
export const listTasks = query('any', TaskService.method.listTasks, {
	*read(tx, call, { visibility }) {
		const { request } = call;
		const page = pageOf(call, ListTasksRequestSchema);
		const node = request.node === '' ? undefined : yield* findNode(tx, request.node);
		// A node that isn't there has no tasks: the same answer as for one that the caller may not see.
		if (request.node !== '' && node === undefined) return { tasks: [], names: new Map<string, string>(), page };
		const tasks = yield* tx.tasks.list({
			afterId: page.afterId,
			limit: page.limit,
			nodeId: node?.id ?? null,
			states: request.states.map(rowStateOf).filter((state) => state !== undefined),
			batchId: request.batchId === '' ? null : request.batchId,
			visibility,
		});
		const names = new Map<string, string>();
		for (const { nodeId } of tasks)
			if (!names.has(nodeId)) names.set(nodeId, (yield* tx.nodes.get(nodeId))?.name ?? '');
		return { tasks, names, page };
	},
	answer: (_call, { tasks, names, page }) =>
		create(ListTasksResponseSchema, {
			tasks: tasks.map((row) => taskMessage(row, names.get(row.nodeId) ?? '')),
			nextPageToken: nextPageToken(page, tasks.at(-1)?.id, tasks.length),
		}),
});
