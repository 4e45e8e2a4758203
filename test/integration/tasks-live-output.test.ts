import { expect, test } from 'vitest';
import { run, startTasksWorld } from './tasks-world.ts';

/** Over and over more than the control plane keeps of the task, slowly enough that all of it could be shown live. */
const CHATTY = `
	echo THE BEGINNING
	for i in $(seq 80); do head -c 65536 /dev/zero | tr '\\0' x; sleep 0.02; done
	echo; echo THE END
`;

test('a task that is shown live and writes far more than its cap keeps its beginning and its last part', async () => {
	await using t = await startTasksWorld();
	const node = await t.newNode();
	await node.start({ limits: { liveOutputAfterMs: 1 } });
	const outputBytesMax = 256 * 1024;
	const id = await t.submit(node.identity.nodeId, run('/bin/sh', '-c', CHATTY), { outputBytesMax });
	expect((await t.ended(id)).state).toBe('succeeded');
	await t.wait(id, ({ outputComplete }) => outputComplete);
	const chunks = await t.world.app.output.read(id, 1, 0, 64 * 1024 * 1024);
	const text = Buffer.concat(chunks.map(({ data }) => data)).toString();
	expect(text.startsWith('THE BEGINNING\n')).toBe(true);
	expect(text.slice(-20)).toContain('THE END\n');
	expect(text.length).toBeLessThan(2 * outputBytesMax);
	expect(chunks.reduce((sum, { droppedBytes }) => sum + droppedBytes, text.length)).toBe(80 * 65536 + 14 + 9);
});
