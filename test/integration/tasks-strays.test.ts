import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loseTasksOfNode } from '../../control-plane/app/tasks/lose-tasks.ts';
import { stopTasks, tasksUnder } from '../../control-plane/app/tasks/stop-tasks.ts';
import { systemContext } from '../../control-plane/context.ts';
import { systemClock } from '../../kit/clock.ts';
import { silentLogger } from '../../kit/log.ts';
import { assignmentRow } from '../contract/store/rows.ts';
import { eventually } from '../eventually.ts';
import { type Node, type RunningNode, run, startTasksWorld, type TasksWorld } from './tasks-world.ts';

const ctx = systemContext('test', systemClock, silentLogger, 'test');
/** Goes on until it is killed. */
const STUBBORN = run('/bin/sh', '-c', 'trap "" TERM; while :; do sleep 0.05; done');
const HOUR_MS = 3_600_000;

/** Nothing of a tenant's runs on after the end of its assignment, whatever happened to its task before. */
describe('what an ended assignment leaves on its node', () => {
	let tasks: TasksWorld;
	let node: Node;
	let running: RunningNode;
	beforeAll(async () => {
		tasks = await startTasksWorld();
		node = await tasks.newNode();
		running = await node.start();
	});
	afterAll(() => tasks[Symbol.asyncDispose]());

	const nodeId = () => node.identity.nodeId;
	const started = async (assignmentId: string) => {
		await tasks.world.store.unit(function* (tx) {
			yield* tx.assignments.insert(assignmentRow(assignmentId, nodeId(), { untilMs: 1 }));
		});
		const id = await tasks.submit(nodeId(), STUBBORN, { assignmentId, timeoutMs: HOUR_MS });
		await tasks.wait(id, ({ state }) => state === 'running');
		return id;
	};
	const assignmentEnds = async (id: string) => {
		const nowMs = systemClock.now();
		const stopped = await tasks.world.store.unit(function* (tx) {
			return yield* stopTasks(tx, yield* tasksUnder(tx, { id, nodeId: nodeId() }, 10, nowMs), [], nowMs);
		});
		stopped.send(tasks.world.app, 'ASSIGNMENT_ENDED');
	};

	it('ends a task that was called lost while its node was silent, and is heard of again', async () => {
		const id = await started('heard');
		expect(await loseTasksOfNode(tasks.world.app, ctx, nodeId())).toBe(1);
		expect(await tasks.task(id)).toMatchObject({ state: 'lost', reason: 'LEASE_LOST' });
		await assignmentEnds('heard');
		expect(await tasks.wait(id, ({ state }) => state !== 'lost')).toMatchObject({ state: 'cancelled', signal: 9 });
	});

	it('ends it when its node comes back later than the end', async () => {
		const id = await started('later');
		await running.stop();
		await assignmentEnds('later');
		expect(await loseTasksOfNode(tasks.world.app, ctx, nodeId())).toBe(1);
		running = await node.start();
		expect(await tasks.wait(id, ({ state }) => state !== 'lost')).toMatchObject({ state: 'cancelled', signal: 9 });
	});

	it('gives a task no longer than the usual grace, though its tenant asked for an hour', async () => {
		const id = await started('graced');
		const cancelled = { state: 'cancelling', cancelRequestedAtMs: 1, cancelGraceMs: HOUR_MS } as const;
		await tasks.world.store.unit((tx) => tx.tasks.update(id, cancelled));
		tasks.dispatch.resync(nodeId());
		await tasks.dispatch.idle();
		await assignmentEnds('graced');
		expect(await tasks.ended(id)).toMatchObject({ state: 'cancelled', signal: 9 });
	});

	it('leaves lost what was called so while its end was being prepared, and stops it', async () => {
		const id = await started('meanwhile');
		const nowMs = systemClock.now();
		const { store, app } = tasks.world;
		const read = await store.read((tx) => tasksUnder(tx, { id: 'meanwhile', nodeId: nodeId() }, 10, nowMs));
		expect(read.map(({ state }) => state)).toEqual(['running']);
		expect(await loseTasksOfNode(app, ctx, nodeId())).toBe(1);
		const stopped = await store.unit((tx) => stopTasks(tx, read, [], nowMs));
		expect(await tasks.task(id)).toMatchObject({ state: 'lost', reason: 'LEASE_LOST', cancelGraceMs: 0 });
		stopped.send(app, 'ASSIGNMENT_ENDED');
		expect(await tasks.wait(id, ({ state }) => state !== 'lost')).toMatchObject({ state: 'cancelled', signal: 9 });
	});

	it('keeps the grace that a lost task was given while its assignment lasts', async () => {
		const folder = mkdtempSync(join(tmpdir(), 'graced-'));
		chmodSync(folder, 0o777);
		const script = `trap 'echo > ${folder}/told' TERM; echo > ${folder}/begun; while [ ! -e ${folder}/end ]; do sleep 0.05; done; exit 7`;
		const id = await tasks.submit(nodeId(), run('/bin/sh', '-c', script), { timeoutMs: HOUR_MS });
		await eventually('it has begun', () => existsSync(join(folder, 'begun')));
		expect(await loseTasksOfNode(tasks.world.app, ctx, nodeId())).toBe(1);
		const asked = { cancelRequestedAtMs: 1, cancelGraceMs: HOUR_MS };
		await tasks.world.store.unit((tx) => tx.tasks.update(id, asked));
		tasks.dispatch.resync(nodeId());
		await eventually('it is told', () => existsSync(join(folder, 'told')));
		writeFileSync(join(folder, 'end'), '');
		expect(await tasks.wait(id, ({ state }) => state !== 'lost')).toMatchObject({ exitCode: 7, signal: null });
		rmSync(folder, { recursive: true });
	});
});
