import { create } from '@bufbuild/protobuf';
import {
	ListTasksRequestSchema,
	ListTasksResponseSchema,
	TaskService,
} from '../../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { TaskRow } from '../../store/port/tasks.ts';
import { findNode } from '../iam/target.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { nodeName } from '../nodes/name.ts';
import { query } from '../use-case.ts';
import { rowStateOf, taskMessage } from './view.ts';

/** A task's arguments may have 1 MiB: a page ends early, with a token, once it holds this much. */
const PAGE_BYTES_MAX = 8 * 1024 * 1024;
const ROWS_PER_READ = 50;

/** Newest first. Filtered by what the caller may get: by the assignment of each task, never by the node's holder. */
export const listTasks = query('any', TaskService.method.listTasks, {
	*read(tx, call, { visibility }) {
		const { request } = call;
		const page = pageOf(call, ListTasksRequestSchema);
		const node = request.node === '' ? undefined : yield* findNode(tx, request.node);
		// A node that isn't there has no tasks: the same answer as for one that the caller may not see.
		if (request.node !== '' && node === undefined)
			return { tasks: [], names: new Map<string, string>(), page, isLast: true };
		const filter = {
			nodeId: node?.id ?? null,
			states: request.states.map(rowStateOf).filter((state) => state !== undefined),
			batchId: request.batchId === '' ? null : request.batchId,
			visibility,
		};
		const tasks: TaskRow[] = [];
		let bytes = 0;
		let isLast = false;
		while (!isLast && tasks.length < page.limit && bytes < PAGE_BYTES_MAX) {
			const limit = Math.min(ROWS_PER_READ, page.limit - tasks.length);
			const rows = yield* tx.tasks.list({ ...filter, afterId: tasks.at(-1)?.id ?? page.afterId, limit });
			tasks.push(...rows);
			bytes += rows.reduce((sum, { spec }) => sum + spec.length, 0);
			isLast = rows.length < limit;
		}
		const names = new Map<string, string>();
		for (const { nodeId } of tasks) if (!names.has(nodeId)) names.set(nodeId, yield* nodeName(tx, nodeId));
		return { tasks, names, page, isLast };
	},
	answer: (_call, { tasks, names, page, isLast }) =>
		create(ListTasksResponseSchema, {
			tasks: tasks.map((row) => taskMessage(row, names.get(row.nodeId) ?? '')),
			nextPageToken: isLast ? '' : nextPageToken(page, tasks.at(-1)?.id, page.limit),
		}),
});
