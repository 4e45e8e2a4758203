import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { startDaemon } from '../../cli/up/children.ts';
import { startOnPorts } from '../../cli/up/claim-ports.ts';
import { readPorts } from '../../cli/up/data-folder.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng } from '../../kit/ids.ts';

const root = mkdtempSync(join(tmpdir(), 'gpuaas-up-ports-'));
const thieves: Server[] = [];
afterAll(() => {
	for (const thief of thieves) thief.close();
	rmSync(root, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
});

test('a control plane whose port was taken in the moment before it could bind it comes up on another', async () => {
	const { folder, child } = await startOnPorts({
		root,
		chosen: {},
		policy: '',
		start: async ({ ports, controlPlaneConfig, log }) => {
			if (thieves.length === 0) {
				const thief = createServer().listen({ host: '127.0.0.1', port: ports.gateway });
				thieves.push(thief);
				await once(thief, 'listening');
			}
			return startDaemon({
				clock: systemClock,
				rng: systemRng,
				daemon: 'control-plane',
				root,
				argv: ['--config', controlPlaneConfig],
				logPath: log('control-plane'),
				onRestart: () => {},
			});
		},
		ready: (daemon) => daemon.ready(),
		onTaken: async (names) => expect(names).toEqual(['gateway']),
		signal: new AbortController().signal,
	});
	try {
		expect(thieves.map((thief) => (thief.address() as { port: number }).port)).not.toContain(folder.ports.gateway);
		expect(await readPorts(root)).toEqual(folder.ports);
		const answer = await fetch(`http://127.0.0.1:${folder.ports.ops}/healthz`);
		expect(answer.status).toBe(200);
		// The first three starts are on record.
		expect(readFileSync(folder.log('control-plane'), 'utf8')).toContain('EADDRINUSE');
	} finally {
		await child[Symbol.asyncDispose]();
	}
});
