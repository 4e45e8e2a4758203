import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { TaskState } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { ApiWorld } from '../integration/api-world.ts';
import { lacks } from '../tools.ts';
import { generatePython, pythonWithGrpc } from './python-grpc.ts';

const run = promisify(execFile);

test.skipIf(lacks('python3'))('Python’s gRPC talks to the API with what protoc makes of the contract', async () => {
	await using world = await ApiWorld.start();
	const node = await world.addNode();
	const python = await pythonWithGrpc();
	const generated = join(world.folder, 'python');
	await generatePython(python, generated);
	const keyFile = join(world.folder, 'key');
	writeFileSync(keyFile, world.operatorKey, { mode: 0o600 });
	const address = `127.0.0.1:${world.server.address.port}`;
	const args = [join(import.meta.dirname, 'api_client.py'), generated, address, world.rootFile(), keyFile, node.id];
	const { stdout } = await run(python, args);
	expect(JSON.parse(stdout)).toMatchObject({
		version: '0.1.0',
		who: 'bootstrap-operator',
		nodes: [node.id],
		anonymous: { code: 'UNAUTHENTICATED', reason: 'UNAUTHENTICATED' },
		task: { node_id: node.id, state: 'TASK_STATE_QUEUED', spec: { run: { argv: ['/bin/echo', 'from python'] } } },
		again: true,
		invalid: { code: 'INVALID_ARGUMENT', reason: 'INVALID_REQUEST' },
		cancelled: TaskState.CANCELLED,
		followed: ['task'],
	});
});
