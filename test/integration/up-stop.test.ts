import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { eventually } from '../eventually.ts';
import { killQuietly, UpWorld } from './up-world.ts';

/** What becomes of the hosts of tasks and terminals when `up` ends and its agent is dead. */
let world: UpWorld;
const hosts = () => [...world.pids('process-host/main'), ...world.pids('pty-host/main')];
const state = () => join(world.data, 'agent', 'identity', 'identity.json');

/** So that no agent starts from now on. */
function breakAgent(): void {
	writeFileSync(state(), 'no state');
	for (const pid of world.pids('agent/main')) killQuietly(pid);
}

beforeEach(async () => {
	world = new UpWorld();
	await world.up();
	await eventually('both are there', () => hosts().length === 2);
});

afterEach(async () => {
	await world[Symbol.asyncDispose]();
});

test('Ctrl-C ends them also when the agent is dead', async () => {
	breakAgent();
	await eventually('its successor has failed', () => world.logs().includes('is not what this agent wrote'));
	expect(hosts()).toHaveLength(2);
	await world.stop();
	expect(hosts()).toEqual([]);
});

test('an up that fails leaves alone what ran before it and says so, and the next one takes over', async () => {
	const before = hosts();
	const kept = readFileSync(state());
	await world.kill();
	breakAgent();
	const failed = await world.run('up', '--data', world.data);
	expect(failed.code, failed.stderr).not.toBe(0);
	expect(failed.stderr).toContain('what ran here before goes on in its process host (process');
	expect(hosts()).toEqual(before);
	writeFileSync(state(), kept);
	await world.up();
	expect(hosts()).toEqual(before);
});
