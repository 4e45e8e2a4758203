import { sleep } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import { Connection, type Node, NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { type Task, TaskService, TaskState } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { Api } from '../client.ts';
import type { Io } from '../io.ts';
import { newRequestId } from '../request-id.ts';
import { followTask } from '../task-stream.ts';

const CONNECT_WAIT_MAX_MS = 60_000;
const POLL_MS = 100;

/** The node that this host's agent became, once it is connected. */
export async function waitForNode(io: Io, api: Api, nodeId: string): Promise<Node> {
	const startedAtMs = io.clock.monotonic();
	for (;;) {
		const { node } = await api.client(NodeService).getNode({ node: nodeId });
		if (node?.connection === Connection.CONNECTED) return node;
		if (io.interrupt.aborted || io.clock.monotonic() - startedAtMs > CONNECT_WAIT_MAX_MS) {
			throw new GpuaasError({
				code: 'DEADLINE_EXCEEDED',
				reason: 'UNREACHABLE',
				message: 'the agent did not connect within a minute; its log says why, and gpuaas node why looks at it',
			});
		}
		await sleep(io.clock, POLL_MS, io.interrupt);
	}
}

export interface FirstTask {
	readonly task: Task;
	readonly output: string;
}

/** Runs a real program through the real path; whoever sees its output knows that everything works. */
export async function runFirstTask(io: Io, api: Api, node: Node): Promise<FirstTask> {
	const tasks = api.client(TaskService);
	const { task } = await tasks.createTask({
		node: node.id,
		spec: { kind: { case: 'run', value: { argv: ['/bin/sh', '-c', 'echo "hello from $(hostname), as $(id -un)"'] } } },
		requestId: newRequestId(io),
	});
	if (task === undefined) throw new GpuaasError({ code: 'INTERNAL', reason: 'INTERNAL', message: 'no task was made' });
	let output = '';
	const ended = await followTask(
		io,
		tasks,
		task.id,
		0n,
		{
			output: async (chunk) => {
				output += Buffer.from(chunk.data).toString('utf8');
			},
		},
		io.interrupt,
	);
	return { task: ended ?? task, output };
}

/** Tasks that are still open, at most `limit`. */
export async function openTasks(api: Api, limit: number): Promise<readonly Task[]> {
	const states = [TaskState.QUEUED, TaskState.LEASED, TaskState.RUNNING, TaskState.CANCELLING];
	return (await api.client(TaskService).listTasks({ states, pageSize: limit })).tasks;
}
