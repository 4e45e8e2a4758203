import { afterAll, beforeAll, expect, test } from 'vitest';
import { endTasks } from '../../control-plane/app/tasks/end-tasks.ts';
import type { TaskPatch } from '../../control-plane/store/port/tasks.ts';
import { present } from '../../kit/assert.ts';
import { AssignmentMode, NodeService } from '../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { TaskService } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { ApiWorld } from './api-world.ts';
import { refusalOf } from './refusal.ts';
import { addTerminal } from './terminal-samples.ts';

/** From one tenant to the next: nothing of the one may run beside the other, whose account on the node is the same. */
let world: ApiWorld;
let tenant: string;
beforeAll(async () => {
	world = await ApiWorld.start();
	tenant = await world.addPrincipal('user', 'tenant.developer', 'organizations/acme/projects/train');
});
afterAll(() => world[Symbol.asyncDispose]());

const nodes = () => world.client(NodeService, world.operatorKey);
const assign = (node: string) =>
	nodes().assignNode({ node, organization: 'acme', project: 'train', mode: AssignmentMode.OPERATOR });
const taskNow = async (id: string) => present(await world.deps.store.read((tx) => tx.tasks.get(id)), 'its row');
const patch = (id: string, change: TaskPatch) => world.deps.store.unit((tx) => tx.tasks.update(id, change));

/** Of a node that is the tenant's, in its agent's hands. */
async function runningTask(): Promise<{ readonly node: string; readonly id: string }> {
	const { id: node } = await world.addNode();
	await assign(node);
	const spec = { kind: { case: 'run' as const, value: { argv: ['/bin/true'] } } };
	const { task } = await world.client(TaskService, tenant).createTask({ node, spec });
	const id = present(task, 'it was made').id;
	await patch(id, { state: 'running', attempt: 1, fencingToken: 1, acceptedAtMs: 1, startedAtMs: 1 });
	return { node, id };
}

async function lose(id: string): Promise<void> {
	await endTasks(world.deps, [await taskNow(id)], { state: 'lost', reason: 'LEASE_LOST', message: 'not heard of' });
}

test('a node is given to nobody while a task of the assignment before is still ending', async () => {
	const { node, id } = await runningTask();
	await nodes().unassignNode({ node });
	expect(await taskNow(id)).toMatchObject({ state: 'cancelling' });
	expect(await refusalOf(assign(node))).toMatchObject({ reason: 'NODE_BUSY', metadata: { 'retry-after': '5' } });
	await patch(id, { state: 'cancelled', endedAtMs: 1 });
	await assign(node);
});

test('nor while a terminal of it is', async () => {
	const { node, id } = await runningTask();
	await patch(id, { state: 'succeeded', endedAtMs: 1 });
	const { assignmentId } = await taskNow(id);
	const open = { state: 'open', closedAtMs: null, exitCode: null, reason: '', assignmentId } as const;
	const terminal = await addTerminal(world, node, 'somebody', open);
	await nodes().unassignNode({ node });
	expect(await refusalOf(assign(node))).toMatchObject({ reason: 'NODE_BUSY' });
	await world.deps.store.unit((tx) => tx.terminals.update(terminal, { state: 'closed', closedAtMs: 1 }));
	await assign(node);
});

test('what is called lost is told to stop with its assignment, and at once', async () => {
	const { node, id } = await runningTask();
	await lose(id);
	await nodes().unassignNode({ node });
	const told = await taskNow(id);
	expect(told).toMatchObject({ state: 'lost', reason: 'LEASE_LOST', cancelGraceMs: 0 });
	expect(told.cancelRequestedAtMs).not.toBeNull();
});

test('a tenant can stop what is called lost; what has ended stays as it ended', async () => {
	const { id } = await runningTask();
	await lose(id);
	const { task } = await world.client(TaskService, tenant).cancelTask({ taskId: id });
	expect(task).toMatchObject({ reason: 'LEASE_LOST', cancelRequested: true });
	const other = await runningTask();
	await patch(other.id, { state: 'lost', reason: 'HOST_DIED', endedAtMs: 1 });
	await world.client(TaskService, tenant).cancelTask({ taskId: other.id });
	expect(await taskNow(other.id)).toMatchObject({ state: 'lost', cancelRequestedAtMs: null });
});

test('a cancel that comes after another one, or after the end of the assignment, gives no more time', async () => {
	const { id } = await runningTask();
	const cancel = (seconds: bigint) =>
		world.client(TaskService, tenant).cancelTask({ taskId: id, grace: { seconds, nanos: 0 } });
	await cancel(20n);
	await cancel(3600n);
	expect(await taskNow(id)).toMatchObject({ state: 'cancelling', cancelGraceMs: 20_000 });
	await cancel(5n);
	expect(await taskNow(id)).toMatchObject({ cancelGraceMs: 5000 });
});
