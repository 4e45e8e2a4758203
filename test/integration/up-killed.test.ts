import { readFileSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Ready, UpWorld } from './up-world.ts';

/** kill -9 of `up` alone: its daemons live on, and nobody is there who would start them again. */
const world = new UpWorld();
let ready: Ready;
/** What the task waits for: a file that its account may make. */
const go = join('/tmp', `${basename(world.root)}-go`);

beforeAll(async () => {
	ready = await world.up();
});

afterAll(async () => {
	await world[Symbol.asyncDispose]();
	rmSync(go, { force: true });
});

test('the next up takes over from its daemons, and a task that runs goes on to its own end', async () => {
	const script = 'echo one; until [ -e "$GO" ]; do sleep 0.1; done; echo two; exit 7';
	const run = world.start(['run', '-e', `GO=${go}`, '--', 'sh', '-c', script]);
	await run.line((line) => line === 'one');
	const before = [...world.pids('control-plane/main'), ...world.pids('agent/main')];
	expect(before).toHaveLength(2);
	await world.kill();
	expect(await world.up()).toMatchObject({ api: ready.api, gateway: ready.gateway, firstTask: { exitCode: 0 } });
	const after = [...world.pids('control-plane/main'), ...world.pids('agent/main')];
	expect(after, 'one of each').toHaveLength(2);
	expect(after.filter((pid) => before.includes(pid))).toEqual([]);
	expect((await world.run('run', '--', 'touch', go)).code).toBe(0);
	expect(await run.ended).toMatchObject({ code: 7, stdout: 'one\ntwo\n' });
	expect((await world.run('audit', 'verify')).stdout).toMatch(/^verified to anchored head/);
});

test('its control plane is asked to stop, so that it completes what it records', () => {
	expect(readFileSync(join(world.data, 'logs', 'control-plane.log'), 'utf8')).toContain('"stopping"');
});
