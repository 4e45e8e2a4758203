import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run, startTasksWorld, type TasksWorld } from './tasks-world.ts';

describe('tasks', () => {
	let tasks: TasksWorld;
	beforeAll(async () => {
		tasks = await startTasksWorld();
	});
	afterAll(() => tasks[Symbol.asyncDispose]());

	it('runs a program and ends by its signed receipt', async () => {
		const node = await tasks.newNode();
		await node.start();
		const id = await tasks.submit(node.identity.nodeId, run('/bin/sh', '-c', 'echo out; echo err >&2; exit 3'));
		const ended = await tasks.ended(id);
		expect(ended).toMatchObject({
			state: 'failed',
			exitCode: 3,
			reason: 'EXIT_CODE',
			outputBytes: 8,
			outputComplete: true,
		});
		const chunks = await tasks.world.output.read(id, 1);
		expect(Buffer.concat(chunks.filter(({ stream }) => stream === 'stdout').map(({ data }) => data)).toString()).toBe(
			'out\n',
		);
		const documents = await tasks.world.store.read((tx) => tx.tasks.getDocuments(id, 1));
		expect(documents?.receipt).not.toBeNull();
	});
});
