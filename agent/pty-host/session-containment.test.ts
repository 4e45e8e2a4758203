import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { compileCache, pidsWith, signOfLife, uniqueSeconds, until } from '../process-host/host-fixture.ts';
import type { SocketPtyHost } from './client.ts';
import type { OpenRequest } from './pty-host.ts';
import { startPtyHost } from './start.ts';

/** Where no control group can be made, a terminal's session is all that holds what runs in it. */
let directory: string;
let host: SocketPtyHost;
const start = () => startPtyHost({ directory, clock: systemClock, compileCache, config: { cgroup: 'off' } });

beforeEach(async () => {
	directory = mkdtempSync(join(tmpdir(), 'pty-'));
	host = await start();
});

afterEach(async () => {
	await host.shutdown();
	rmSync(directory, { recursive: true, force: true });
});

/** A shell, and two jobs that take no notice of a hang-up. */
async function opened(seconds: string): Promise<OpenRequest> {
	const request = {
		id: uuidv7(systemClock.now(), systemRng),
		argv: ['/bin/sh', '-c', `trap "" HUP; sleep ${seconds} & sleep ${seconds} & wait`],
		env: { PATH: '/usr/bin:/bin', TERM: 'dumb' },
		cwd: '/',
		user: process.getuid?.() === 0 ? 'nobody' : (process.env.USER ?? 'nobody'),
		limits: {},
		tty: { columns: 80, rows: 24 },
	};
	expect(await host.open(request)).toMatchObject({ kind: 'OPENED' });
	await until(() => {
		if (jobs(seconds).length !== 2) throw new Error('they do not run yet');
	});
	return request;
}

const jobs = (seconds: string) => pidsWith(`sleep\u0000${seconds}`);

const areGone = (seconds: string) =>
	until(() => {
		if (jobs(seconds).length > 0) throw new Error('they still run');
	});

test('closing a terminal ends its whole session', async () => {
	const seconds = uniqueSeconds();
	const { id } = await opened(seconds);
	await host.end(id, 'TERMINAL_KILLED', 'closed');
	await areGone(seconds);
	await until(async () => {
		expect(await host.list()).toMatchObject([{ id, outcome: { reason: 'TERMINAL_KILLED' } }]);
	});
});

test('the next host ends what a host that died left running', async () => {
	const seconds = uniqueSeconds();
	const { id } = await opened(seconds);
	await signOfLife(directory);
	process.kill(host.pid, 'SIGKILL');
	await host.closed;
	host = await start();
	await areGone(seconds);
	expect(await host.list()).toMatchObject([{ id, outcome: { reason: 'HOST_DIED' } }]);
});
