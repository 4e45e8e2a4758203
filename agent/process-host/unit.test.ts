import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type Clock, systemClock } from '../../kit/clock.ts';
import { readDirectoryLock } from '../../kit/directory-lock.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { compileCache, HostFixture, until } from './host-fixture.ts';
import { startProcessHost } from './start.ts';

const unit = 'gpuaas-process-host.service';

/** The system's, and how many pauses were made on it: a start by a unit makes one a try. */
function counting() {
	const pauses = { made: 0 };
	const clock: Clock = {
		...systemClock,
		setTimer(callback, delayMs) {
			pauses.made += 1;
			return systemClock.setTimer(callback, delayMs);
		},
	};
	/** It looked so often since, and found nobody. */
	const tried = async (times: number) => {
		const enough = pauses.made + times;
		await until(() => expect(pauses.made).toBeGreaterThanOrEqual(enough));
	};
	return { clock, tried };
}

it('where a unit starts the host it is waited for, and none is started in the cgroup of who waits', async () => {
	const directory = mkdtempSync(join(tmpdir(), 'ph-'));
	const { clock, tried } = counting();
	const reached = startProcessHost({ directory, clock, compileCache, unit });
	await tried(10);
	expect(readDirectoryLock(directory)).toBeUndefined();
	// As the unit does.
	const host = await startProcessHost({ directory, clock: systemClock, compileCache });
	await using fixture = new HostFixture(directory, {}, host);
	const found = await reached;
	expect(found.pid).toBe(host.pid);
	await found.close();

	// One that makes room ends, and its place is the unit's, too.
	expect(await host.retire()).toBe(true);
	await until(() => expect(readDirectoryLock(directory)?.alive).toBe(false));
	const next = startProcessHost({ directory, clock, compileCache, unit });
	await tried(5);
	expect(readDirectoryLock(directory)).toMatchObject({ alive: false, lock: { pid: host.pid } });
	const successor = await fixture.connect();
	const again = await next;
	expect(again.pid).toBe(successor.pid);
	await again.close();
	expect(readFileSync(join(directory, 'host.log'), 'utf8')).not.toContain('not started');
});

it('a unit that starts none is named', async () => {
	const directory = mkdtempSync(join(tmpdir(), 'ph-'));
	try {
		const clock = new VirtualClock();
		let error: unknown;
		const reached = startProcessHost({ directory, clock, unit }).catch((caught: unknown) => {
			error = caught;
		});
		await expect
			.poll(
				() => {
					clock.advance(1000);
					return error;
				},
				{ interval: 5 },
			)
			.toMatchObject({
				code: 'UNAVAILABLE',
				reason: 'UNREACHABLE',
				message: expect.stringContaining(`systemctl status ${unit}`),
			});
		await reached;
		expect(readDirectoryLock(directory)).toBeUndefined();
	} finally {
		rmSync(directory, { recursive: true, force: true });
	}
});
