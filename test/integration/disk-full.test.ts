import { spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../eventually.ts';
import { lacks } from '../tools.ts';
import { UpWorld } from './up-world.ts';

/** The data folder's disk runs full under the whole product: typed refusals, nobody dies, nothing acknowledged is lost. */
describe.skipIf(lacks('root', 'mount'))('a full disk', () => {
	const world = new UpWorld();
	const filler = join(world.data, 'filler');
	let ops = '';

	beforeAll(async () => {
		mkdirSync(world.data);
		const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=640m,mode=0700', 'none', world.data]);
		if (mounted.status !== 0) throw new Error(String(mounted.stderr));
		({ ops } = await world.up());
	});

	afterAll(async () => {
		rmSync(filler, { force: true });
		await world.stop();
		spawnSync('umount', ['--lazy', world.data]);
		await world[Symbol.asyncDispose]();
	});

	/** Writes until nothing more fits. */
	function fill(): void {
		const file = openSync(filler, 'w', 0o600);
		for (let size = 1 << 20; size >= 512; ) {
			try {
				writeSync(file, Buffer.alloc(size));
			} catch {
				size >>= 1;
			}
		}
		closeSync(file);
	}

	test('both daemons go on, a task is refused with what to do, and everything works again when there is room', async () => {
		const before = [...world.pids('control-plane/main'), ...world.pids('agent/main')];
		fill();
		const refused = await world.run('run', '--', 'echo', 'no');
		expect(refused.code).toBe(125);
		expect(refused.stderr).toMatch(/space|disk|full/i);
		expect((await fetch(`${ops}/readyz`)).status).toBe(503);
		expect([...world.pids('control-plane/main'), ...world.pids('agent/main')]).toEqual(before);
		rmSync(filler);
		const ran = await eventually('a task runs again', async () => {
			const again = await world.run('run', '--', 'echo', 'yes');
			return again.code === 0 && again;
		});
		expect(ran.stdout).toBe('yes\n');
		expect((await world.run('audit', 'verify')).stdout).toMatch(/^verified to anchored head/);
	});
});
