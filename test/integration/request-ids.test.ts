import { create } from '@bufbuild/protobuf';
import { describe, expect, test } from 'vitest';
import { openStore } from '../../control-plane/store/open.ts';
import { TaskService, TaskSpecSchema } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { PostgresServer } from '../fakes/postgres.ts';
import { lacks } from '../tools.ts';
import { ApiWorld } from './api-world.ts';

const RUN = create(TaskSpecSchema, { kind: { case: 'run', value: { argv: ['/bin/true'] } } });

/** Where transactions overlap: whoever comes second has seen no first answer when it began. */
describe.skipIf(lacks('postgres', 'initdb'))('one request id, on PostgreSQL', () => {
	test('twenty at once have one effect, and all get its answer', async () => {
		await using server = await PostgresServer.start();
		const url = await server.createDatabase();
		await using world = await ApiWorld.start({ openStore: (deps) => openStore(url, deps) });
		const node = await world.addNode();
		const tasks = world.client(TaskService, world.operatorKey);
		const request = { node: node.id, spec: RUN, requestId: 'r' };
		const answers = await Promise.all(Array.from({ length: 20 }, () => tasks.createTask(request)));
		expect(new Set(answers.map(({ task }) => task?.id)).size).toBe(1);
		expect((await tasks.listTasks({ node: node.id })).tasks).toHaveLength(1);
		expect((await world.audit()).filter(({ action }) => action === 'tasks.create')).toHaveLength(1);
	});
});
