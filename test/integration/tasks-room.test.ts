import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startProcessHost } from '../../agent/process-host/start.ts';
import { systemClock } from '../../kit/clock.ts';
import { run, startTasksWorld } from './tasks-world.ts';

/** A process host with less room than the tasks want: they wait for it, and all of them run. */
async function nodeWithSpool(spoolBytesMax: number) {
	const t = await startTasksWorld();
	const node = await t.newNode();
	const connect = () =>
		startProcessHost({ directory: join(node.folder, 'host'), clock: systemClock, config: { spoolBytesMax } });
	const running = await node.start({ connect });
	return { t, node, running };
}

test('tasks whose output caps fill the spool together wait for each other instead of failing', async () => {
	const { t, node } = await nodeWithSpool(1024 * 1024);
	await using _world = t;
	const ids = await Promise.all(
		Array.from({ length: 12 }, () =>
			t.submit(node.identity.nodeId, run('/bin/sh', '-c', 'echo done'), { outputBytesMax: 300 * 1024 }),
		),
	);
	const ended = await Promise.all(ids.map((id) => t.ended(id)));
	expect(ended.map(({ state, reason }) => `${state} ${reason}`)).toEqual(ids.map(() => 'succeeded '));
});

test('a cap above the whole spool is cut to it, so that the task can start at all', async () => {
	const { t, node } = await nodeWithSpool(1024 * 1024);
	await using _world = t;
	const id = await t.submit(node.identity.nodeId, run('/bin/true'), { outputBytesMax: 64 * 1024 * 1024 });
	expect((await t.ended(id)).state).toBe('succeeded');
});
