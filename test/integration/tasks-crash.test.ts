import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Node, run, startTasksWorld, type TasksWorld } from './tasks-world.ts';

/** kill -9 of the agent at each step between an offer and the end of everything that reminds of it. */
const BEFORE_ITS_END = [
	'before commit of taskAccepted',
	'after commit of taskAccepted',
	'before launch',
	'launch sent',
	'after launch',
	'before commit of taskStarted',
	'after commit of taskStarted',
];
const AT_ITS_END = ['before commit of taskFinished', 'after commit of taskFinished', 'before forget', 'after forget'];

describe('an agent that is killed', () => {
	let tasks: TasksWorld;
	let folder: string;
	const children = new Set<ChildProcess>();
	beforeAll(async () => {
		folder = mkdtempSync(join(tmpdir(), 'gpuaas-crash-'));
		tasks = await startTasksWorld();
	});
	afterEach(async () => {
		for (const child of children) {
			const exited = once(child, 'exit');
			child.kill('SIGKILL');
			await exited;
		}
	});
	afterAll(async () => {
		await tasks[Symbol.asyncDispose]();
		rmSync(folder, { recursive: true });
	});

	function start(node: Node, crashAt: string): ChildProcess {
		mkdirSync(node.folder, { recursive: true, mode: 0o700 });
		const main = join(import.meta.dirname, 'tasks-agent.ts');
		const child = spawn(process.execPath, [main, node.identityFolder, node.folder, crashAt], {
			stdio: ['ignore', 'inherit', 'inherit'],
		});
		children.add(child);
		child.once('exit', () => children.delete(child));
		return child;
	}

	it.each([...BEFORE_ITS_END, ...AT_ITS_END])('%s runs its task once, and tells its end once', async (point) => {
		const node = await tasks.newNode();
		const file = join(folder, point.replaceAll(' ', '-'));
		const gate = `${file}-gate`;
		const script = `echo x >>${file}; until [ -e ${gate} ]; do sleep 0.02; done; echo out`;
		const id = await tasks.submit(node.identity.nodeId, run('/bin/sh', '-c', script));
		const exited = once(start(node, point), 'exit');
		// So that its start and its end are written apart.
		if (AT_ITS_END.includes(point)) {
			await tasks.wait(id, ({ state }) => state === 'running');
			writeFileSync(gate, '');
		}
		const [, signal] = await exited;
		expect(signal).toBe('SIGKILL');
		// In the middle of it at the latest: it ends while there is no agent.
		writeFileSync(gate, '');
		start(node, '');
		expect(await tasks.ended(id)).toMatchObject({ state: 'succeeded', attempt: 1, exitCode: 0, outputBytes: 4 });
		const ended = await tasks.wait(id, ({ outputComplete }) => outputComplete);
		expect(ended.state).toBe('succeeded');
		expect(readFileSync(file, 'utf8')).toBe('x\n');
		const chunks = await tasks.world.output.read(id, 1);
		expect(Buffer.concat(chunks.map(({ data }) => data)).toString()).toBe('out\n');
	});
});
