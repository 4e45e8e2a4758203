import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, expect, onTestFinished, test } from 'vitest';
import { killQuietly, UpWorld } from './up-world.ts';

/** What a daemon does when nobody reads any more what it writes: an `up` that was killed, before or after it was ready. */
const GPUAAS = join(import.meta.dirname, '..', '..', 'gpuaas');
const folder = mkdtempSync(join(tmpdir(), 'gpuaas-daemon-output-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('a control plane whose starter is gone serves on, and stops as one that is heard', async () => {
	const { PATH = '', HOME = '/' } = process.env;
	const ports = ['api', 'gateway', 'enroll', 'ops'].flatMap((name) => ['--set', `${name}.port=0`]);
	const daemon = spawn(GPUAAS, ['control-plane', 'serve', '--data', join(folder, 'data'), ...ports], {
		env: { PATH, HOME },
		stdio: ['ignore', 'pipe', 'pipe'],
	});
	onTestFinished(() => void daemon.kill('SIGKILL'));
	const ended = once(daemon, 'exit');
	daemon.stdout.destroy();
	const lines: string[] = [];
	for await (const line of createInterface({ input: daemon.stderr })) {
		lines.push(line);
		if (line.includes('"message":"ready"')) break;
	}
	expect(lines.at(-1), lines.join('\n')).toContain('"message":"ready"');
	// Nor of its log, from now on.
	daemon.stderr.destroy();
	daemon.kill('SIGTERM');
	expect(await ended).toEqual([0, null]);
});

test('an agent whose starter is gone takes tasks, and stops as one that is heard', async () => {
	await using world = new UpWorld();
	await world.up();
	await world.kill();
	for (const pid of world.pids('agent/main')) killQuietly(pid);
	const agent = spawn(GPUAAS, ['agent', 'run', '--config', join(world.data, 'agent.toml')], {
		env: world.env(),
		stdio: ['ignore', 'pipe', 'ignore'],
	});
	onTestFinished(() => void agent.kill('SIGKILL'));
	const ended = once(agent, 'exit');
	agent.stdout.destroy();
	// It says that it is ready before it is offered anything.
	expect(await Promise.race([world.run('run', '--', 'true'), ended])).toMatchObject({ code: 0 });
	agent.kill('SIGTERM');
	expect(await ended).toEqual([0, null]);
});
