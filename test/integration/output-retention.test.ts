import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { FileOutputStore } from '../../control-plane/adapters/object-store/file-output-store.ts';
import { RetentionReconciler } from '../../control-plane/reconcilers/retention.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { TaskSpecSchema } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { startWorld } from './link-world.ts';
import { taskRow } from './tasks-world.ts';

const HOUR_MS = 3_600_000;

test('output of tasks that ended before the retention goes, all other stays, again and again', async () => {
	const folder = mkdtempSync(join(tmpdir(), 'gpuaas-retention-'));
	await using world = await startWorld();
	await using output = new FileOutputStore({ folder, freeBytesMin: 0 });
	const { nodeId } = await world.enroll();
	const nowMs = systemClock.now();
	const task = async (createdAtMs: number, endedAtMs: number | null) => {
		const id = uuidv7(createdAtMs, systemRng);
		const state = endedAtMs === null ? 'running' : 'succeeded';
		const row = taskRow(nodeId, create(TaskSpecSchema), { id, state, createdAtMs, endedAtMs, attempt: 1 });
		await world.store.unit((tx) => tx.tasks.insert(row));
		const data = Buffer.from('hello');
		await output.append(id, 1, [{ offset: 0, stream: 'stdout', data, droppedBytes: 0 }], 1 << 20);
		return id;
	};
	const old = await Promise.all([3, 4, 5].map((hours) => task(nowMs - 9 * HOUR_MS, nowMs - hours * HOUR_MS)));
	const kept = [
		await task(nowMs - 9 * HOUR_MS, nowMs - HOUR_MS),
		await task(nowMs - 9 * HOUR_MS, null),
		await task(nowMs, nowMs),
	];
	await using retention = new RetentionReconciler(
		{ ...world.app, output },
		{ retentionMs: 2 * HOUR_MS, periodMs: HOUR_MS },
	);
	const stored = (ids: readonly string[]) => Promise.all(ids.map((id) => output.storedOffset(id, 1)));
	for (let round = 0; round < 2; round += 1) {
		await retention.once();
		expect(await stored(old)).toEqual([0, 0, 0]);
		expect(await stored(kept)).toEqual([5, 5, 5]);
	}
	rmSync(folder, { recursive: true, force: true });
});

test('output that can not be removed holds up no other', async () => {
	await using world = await startWorld();
	const { nodeId } = await world.enroll();
	const nowMs = systemClock.now();
	const ids: string[] = [];
	for (const hours of [9, 8, 7]) {
		const id = uuidv7(nowMs - hours * HOUR_MS, systemRng);
		const ended = { state: 'succeeded' as const, createdAtMs: nowMs - hours * HOUR_MS, endedAtMs: nowMs - 5 * HOUR_MS };
		const row = taskRow(nodeId, create(TaskSpecSchema), { id, ...ended, attempt: 1 });
		await world.store.unit((tx) => tx.tasks.insert(row));
		ids.push(id);
	}
	const asked: string[] = [];
	const output: typeof world.app.output = Object.create(world.app.output, {
		remove: {
			value: async (id: string) => {
				asked.push(id);
				if (id === ids[0]) throw new Error('EACCES');
			},
		},
	});
	await using retention = new RetentionReconciler(
		{ ...world.app, output },
		{ retentionMs: 2 * HOUR_MS, periodMs: HOUR_MS },
	);
	await retention.once();
	expect(asked).toEqual(ids);
	// Again with the next pass.
	await retention.once();
	expect(asked).toEqual([...ids, ...ids]);
});
