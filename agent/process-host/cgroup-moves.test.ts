import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { CgroupMoves } from './cgroup-moves.ts';
import { until } from './host-fixture.ts';

/** Plain files in place of the kernel's: each step is a `0` in one of them. */
let root: string;
let clock: VirtualClock;
let moves: CgroupMoves;
const steps = (name: string) => readFileSync(join(root, name, 'cgroup.procs'), 'utf8').length;

beforeEach(() => {
	root = mkdtempSync(join(tmpdir(), 'moves-'));
	for (const name of ['home', 'task']) {
		mkdirSync(join(root, name));
		writeFileSync(join(root, name, 'cgroup.procs'), '');
	}
	clock = new VirtualClock();
	moves = new CgroupMoves(clock, join(root, 'home'));
});
afterEach(() => {
	moves.close();
	rmSync(root, { recursive: true, force: true });
});

const task = () => join(root, 'task');

it('works inside the cgroup and is home again afterwards, also after a failure', async () => {
	const order: string[] = [];
	await moves.inside(
		task(),
		() => order.push(`inside ${steps('task')}`),
		() => order.push(`home ${steps('home')}`),
	);
	// One step that warmed the lock, one back home.
	expect(order).toEqual(['inside 1', 'home 2']);
	const failing = moves.inside(
		task(),
		() => {
			throw new Error('no fork');
		},
		() => undefined,
	);
	await expect(failing).rejects.toThrow('no fork');
	expect(steps('home')).toBe(3);
});

it('waits for a cold lock on another thread, and for a warm one not at all', async () => {
	let worked = 0;
	const cold = moves.inside(
		task(),
		() => (worked += 1),
		() => undefined,
	);
	await Promise.resolve();
	expect(worked).toBe(0);
	await cold;
	const warm = moves.inside(
		task(),
		() => (worked += 1),
		() => undefined,
	);
	expect(worked).toBe(2);
	await warm;
});

it('never works inside a cgroup while a step of the other thread is under way', async () => {
	const together = [1, 2, 3].map(() =>
		moves.inside(
			task(),
			() => steps('home'),
			() => undefined,
		),
	);
	// The one warming step was over before the first of them, and each went home before the next.
	expect(await Promise.all(together)).toEqual([1, 2, 3]);
});

it('waits for a step that only keeps the lock warm', async () => {
	await moves.inside(
		task(),
		() => undefined,
		() => undefined,
	);
	clock.advance(4);
	let hasWorked = false;
	const launch = moves.inside(
		task(),
		() => {
			hasWorked = true;
		},
		() => undefined,
	);
	expect(hasWorked).toBe(false);
	await launch;
	expect(hasWorked).toBe(true);
});

it('keeps the lock warm for a second after the last launch and then rests', async () => {
	await moves.inside(
		task(),
		() => undefined,
		() => undefined,
	);
	await until(() => {
		clock.advance(4);
		expect(steps('home')).toBeGreaterThan(4);
	});
	clock.advance(2000);
	expect(clock.pending).toBe(0);
});
