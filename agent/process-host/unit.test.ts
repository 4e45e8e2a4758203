import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { sleep, systemClock } from '../../kit/clock.ts';
import { readDirectoryLock } from '../../kit/directory-lock.ts';
import { VirtualClock } from '../../kit/virtual-clock.ts';
import { compileCache, HostFixture } from './host-fixture.ts';
import { startProcessHost } from './start.ts';

const unit = 'gpuaas-process-host.service';

it('where a unit starts the host it is waited for, and none is started in the cgroup of who waits', async () => {
	const directory = mkdtempSync(join(tmpdir(), 'ph-'));
	const reached = startProcessHost({ directory, clock: systemClock, compileCache, unit });
	await sleep(systemClock, 1000);
	expect(readDirectoryLock(directory)).toBeUndefined();
	// As the unit does.
	const host = await startProcessHost({ directory, clock: systemClock, compileCache });
	await using fixture = new HostFixture(directory, {}, host);
	const found = await reached;
	expect(found.pid).toBe(host.pid);
	await found.close();

	// One that makes room ends, and its place is the unit's, too.
	expect(await host.retire()).toBe(true);
	const next = startProcessHost({ directory, clock: systemClock, compileCache, unit });
	await sleep(systemClock, 500);
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
				{ interval: 5, timeout: 20_000 },
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
