import { appendFileSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { signEnvelope } from '../../control-plane/app/tasks/envelope.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { LogRing } from '../../kit/log-ring.ts';
import { TaskSpecSchema } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { claimQueued } from '../contract/store/claim-queued.ts';
import { assignmentRow } from '../contract/store/rows.ts';
import { run, startTasksWorld, type TasksWorld, taskRow } from './tasks-world.ts';

/** What an agent starts nothing of, and what it lets nobody see. */
let tasks: TasksWorld;
const folder = mkdtempSync(join(tmpdir(), 'gpuaas-tasks-refused-'));
beforeAll(async () => {
	tasks = await startTasksWorld();
});
afterAll(async () => {
	await tasks[Symbol.asyncDispose]();
	rmSync(folder, { recursive: true });
});

const sh = (script: string) => run('/bin/sh', '-c', script);

it('has no more tasks open than it may, and takes others once one has ended', async () => {
	const small = await tasks.newNode();
	await small.start({ limits: { attemptsMax: 1 } });
	const gate = join(folder, 'open');
	const open = await tasks.submit(small.identity.nodeId, sh(`while [ ! -e ${gate} ]; do sleep 0.05; done`));
	await tasks.wait(open, ({ state }) => state === 'running');
	const more = await tasks.submit(small.identity.nodeId, run('/bin/true'), { attemptsMax: 2 });
	expect(await tasks.ended(more)).toMatchObject({ state: 'refused', reason: 'TOO_MANY_TASKS', attempt: 2 });
	appendFileSync(gate, '');
	expect(await tasks.ended(open)).toMatchObject({ state: 'succeeded' });
	const again = await tasks.submit(small.identity.nodeId, run('/bin/true'));
	expect(await tasks.ended(again)).toMatchObject({ state: 'succeeded' });
});

it('starts nothing of a task whose cancel came before its offer', async () => {
	const node = await tasks.newNode();
	const { nodeId } = node.identity;
	await node.start();
	// It was welcomed: from now on an order is judged by what its journal keeps.
	await tasks.ended(await tasks.submit(nodeId, run('/bin/true')));
	const file = join(folder, 'overtaken');
	const row = taskRow(nodeId, create(TaskSpecSchema, sh(`echo x >>${file}`)));
	await tasks.world.store.unit((tx) => tx.tasks.insert(row));
	const [claimed] = await claimQueued(tasks.world.store, nodeId, 1, systemClock.now() + 60_000);
	const leased = present(claimed, 'the task is queued');
	expect(leased.id).toBe(row.id);
	const { envelope } = await signEnvelope(tasks.world.app, leased, 1, systemClock.now());
	const { fencingToken, correlationId } = leased;
	const cancelling = { state: 'cancelling', cancelRequestedAtMs: systemClock.now(), cancelGraceMs: 1000 } as const;
	await tasks.world.store.unit((tx) => tx.tasks.update(row.id, cancelling, ['leased']));
	const command = { taskId: row.id, attempt: 1, fencingToken, graceMs: 1000, reason: 'CANCELLED', correlationId };
	expect(tasks.world.registry.cancel(nodeId, command)).toBe(true);
	tasks.world.registry.offer(nodeId, { taskId: row.id, attempt: 1, correlationId: '', envelope });
	expect(await tasks.ended(row.id)).toMatchObject({ state: 'cancelled', reason: 'CANCELLED', startedAtMs: null });
	await tasks.ended(await tasks.submit(nodeId, run('/bin/true')));
	expect(readdirSync(folder)).not.toContain('overtaken');
});

it('never runs what was sent before its journal began, also where the control plane can not know of it', async () => {
	const node = await tasks.newNode();
	const file = join(folder, 'before');
	const id = await tasks.submit(node.identity.nodeId, sh(`echo x >>${file}`));
	await claimQueued(tasks.world.store, node.identity.nodeId, 1, systemClock.now() + 60_000);
	await node.start();
	expect(await tasks.ended(id)).toMatchObject({ state: 'lost', reason: 'JOURNAL_LOST' });
	expect(await tasks.ended(await tasks.submit(node.identity.nodeId, run('/bin/true')))).toMatchObject({
		state: 'succeeded',
	});
	expect(readdirSync(folder)).not.toContain('before');
});

it('puts into a bundle of a tenant nothing that was logged before its first task', async () => {
	const shared = await tasks.newNode();
	const ring = new LogRing({ write: () => {} }, 10_000);
	await shared.start({ platform: { recentLog: ring } });
	const spec = { kind: { case: 'collectBundle' as const, value: { parts: ['agent'] } } };
	const bundleOf = async (assignmentId: string | null) => {
		const id = await tasks.submit(shared.identity.nodeId, spec, { assignmentId });
		expect(await tasks.ended(id)).toMatchObject({ state: 'succeeded' });
		await tasks.wait(id, ({ outputComplete }) => outputComplete);
		return Buffer.concat((await tasks.world.output.read(id, 1)).map(({ data }) => data)).toString();
	};
	for (const id of ['one', 'two'])
		await tasks.world.store.unit((tx) =>
			tx.assignments.insert(assignmentRow(id, shared.identity.nodeId, { untilMs: 1 })),
		);
	await bundleOf('one');
	ring.write('a task of one\n');
	expect(await bundleOf('one')).toContain('a task of one');
	expect(await bundleOf('two')).not.toContain('a task of one');
	ring.write('a task of two\n');
	expect(await bundleOf('two')).toContain('a task of two');
	expect(await bundleOf(null)).toContain('a task of one');
});

it('puts no secret into a bundle', async () => {
	const told = await tasks.newNode();
	await told.start({
		platform: { recentLog: { written: 1, text: () => 'joined by gpu_jt_AbCdEf123456.SGVsbG8gd29ybGQ\n' } },
	});
	const spec = { kind: { case: 'collectBundle' as const, value: { parts: ['agent'] } } };
	const id = await tasks.submit(told.identity.nodeId, spec);
	expect(await tasks.ended(id)).toMatchObject({ state: 'succeeded' });
	await tasks.wait(id, ({ outputComplete }) => outputComplete);
	const chunks = await tasks.world.output.read(id, 1);
	const bundle = Buffer.concat(chunks.map(({ data }) => data)).toString();
	expect(bundle).toContain('joined by gpu_jt_[redacted]');
	expect(bundle).not.toContain('SGVsbG8gd29ybGQ');
});
