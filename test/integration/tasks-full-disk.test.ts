import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { journalFailure } from '../../agent/journal/rows.ts';
import { SqliteJournal } from '../../agent/journal/sqlite.ts';
import { recordDeclined } from '../../control-plane/app/tasks/record-declined.ts';
import { systemContext } from '../../control-plane/context.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { TaskRefusedSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { claimQueued } from '../contract/store/claim-queued.ts';
import { eventually } from '../eventually.ts';
import { run, startTasksWorld, type TasksWorld } from './tasks-world.ts';

/** What an agent does while its journal takes no writes: nothing new, nothing twice, and it stays within reach. */
class FullJournal extends SqliteJournal {
	isFull = false;

	override transaction<T>(change: () => T): T {
		if (this.isFull) throw journalFailure('FULL');
		return super.transaction(change);
	}
}

const sh = (script: string) => run('/bin/sh', '-c', script);

let tasks: TasksWorld;
let nodeId: string;
let journal: FullJournal;
let folder: string;

beforeAll(async () => {
	folder = mkdtempSync(join(tmpdir(), 'gpuaas-full-'));
	tasks = await startTasksWorld();
	const node = await tasks.newNode();
	nodeId = node.identity.nodeId;
	journal = new FullJournal({ path: join(folder, 'journal.db') });
	await node.start({ journal });
	await tasks.ended(await tasks.submit(nodeId, run('/bin/true')));
});

afterAll(async () => {
	await tasks[Symbol.asyncDispose]();
	rmSync(folder, { recursive: true });
});

function epoch(): number | undefined {
	return tasks.world.registry.get(nodeId)?.epoch;
}

it('refuses what it is offered with a reason, says it to whoever asks, and keeps its link and what runs', async () => {
	const gate = join(folder, 'gate');
	const before = await tasks.submit(nodeId, sh(`while [ ! -e ${gate} ]; do sleep 0.05; done`));
	await tasks.wait(before, ({ state }) => state === 'running');
	const link = epoch();
	journal.isFull = true;
	const ran = join(folder, 'ran');
	const declined = await tasks.submit(nodeId, sh(`echo x >>${ran}`));
	expect(await tasks.ended(declined)).toMatchObject({ state: 'refused', reason: 'DISK_FULL', startedAtMs: null });
	expect(tasks.world.registry.declinedBy(nodeId)).toMatchObject({ reason: 'DISK_FULL' });
	const again = await tasks.submit(nodeId, sh(`echo x >>${ran}`), { attemptsMax: 3 });
	expect(await tasks.ended(again)).toMatchObject({ state: 'refused', reason: 'DISK_FULL', attempt: 3 });
	journal.isFull = false;
	writeFileSync(gate, '');
	expect(await tasks.ended(before)).toMatchObject({ state: 'succeeded' });
	// The control plane has acted on the refusal: a copy of the offer that comes late must not be taken.
	const documents = await tasks.world.store.read((tx) => tx.tasks.getDocuments(declined, 1));
	const envelope = present(documents?.envelope, 'it was offered');
	expect(tasks.world.registry.offer(nodeId, { taskId: declined, attempt: 1, correlationId: '', envelope })).toBe(true);
	expect(await tasks.ended(await tasks.submit(nodeId, run('/bin/true')))).toMatchObject({ state: 'succeeded' });
	expect(readdirSync(folder)).not.toContain('ran');
	expect(epoch()).toBe(link);
});

it('stops what a cancel names, whose end is told once there is room', async () => {
	const mark = `3000.${process.pid}`;
	const id = await tasks.submit(nodeId, run('/bin/sleep', mark));
	await tasks.wait(id, ({ state }) => state === 'running');
	const link = epoch();
	journal.isFull = true;
	const patch = { state: 'cancelling', cancelRequestedAtMs: systemClock.now(), cancelGraceMs: 1000 } as const;
	await tasks.world.store.unit((tx) => tx.tasks.update(id, patch, ['running']));
	tasks.dispatch.resync(nodeId);
	await eventually('nothing of it runs', () => processesWith(mark).length === 0);
	expect((await tasks.task(id)).state).toBe('cancelling');
	journal.isFull = false;
	expect(await tasks.ended(id)).toMatchObject({ state: 'cancelled' });
	expect(epoch()).toBe(link);
});

it('records nothing that an agent declined over a session before', async () => {
	const { app, store } = tasks.world;
	const { nodeId: other } = await tasks.world.enroll();
	const id = await tasks.submit(other, run('/bin/true'));
	await claimQueued(store, other, 1, systemClock.now() + 60_000);
	const { fencingToken } = await tasks.task(id);
	const refusal = { taskId: id, attempt: 1, fencingToken: BigInt(fencingToken), reason: 'DISK_FULL' };
	const declined = [create(TaskRefusedSchema, refusal)];
	const ctx = systemContext('test', app.clock, app.log, 'test');
	await recordDeclined(app, ctx, { nodeId: other, epoch: 7 }, declined);
	await recordDeclined(app, ctx, { nodeId, epoch: present(epoch(), 'it is connected') }, declined);
	expect((await tasks.task(id)).state).toBe('leased');
	await recordDeclined(app, ctx, { nodeId: other, epoch: 0 }, declined);
	expect(await tasks.task(id)).toMatchObject({ state: 'refused', reason: 'DISK_FULL' });
});

function processesWith(argument: string): string[] {
	return readdirSync('/proc').filter((pid) => {
		if (!/^\d+$/.test(pid)) return false;
		try {
			return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(argument);
		} catch {
			return false;
		}
	});
}
