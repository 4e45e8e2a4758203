import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { eventually } from '../eventually.ts';
import { lacks } from '../tools.ts';
import { killQuietly, UpWorld } from './up-world.ts';

interface Listed {
	readonly id: string;
	readonly terminalId: string;
	readonly state: string;
	readonly truncated: string;
}

/** A real terminal of the whole product, recorded, replayed and verified as a person does it. */
describe.skipIf(lacks('script'))('a terminal of the product', () => {
	const world = new UpWorld();
	beforeAll(async () => {
		await world.up();
	});
	afterAll(() => world[Symbol.asyncDispose]());

	/** In a pseudo-terminal of its own, as `script` gives one; all that it showed. */
	async function inTerminal(...argv: string[]): Promise<string> {
		const gpuaas = join(import.meta.dirname, '../../gpuaas');
		const line = [gpuaas, ...argv].map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
		const child = spawn('script', ['-qec', line, '/dev/null'], { env: world.env(), stdio: ['pipe', 'pipe', 'ignore'] });
		let shown = '';
		child.stdout.on('data', (data: Buffer) => {
			shown += data.toString();
		});
		await once(child, 'close');
		return shown;
	}

	/** The control plane again, with these settings of recordings. */
	async function restartWith(settings: string): Promise<void> {
		const config = join(world.data, 'control-plane.toml');
		const text = readFileSync(config, 'utf8').split('[recordings]')[0];
		writeFileSync(config, `${text}[recordings]\n${settings}\n`);
		const before = world.pids('control-plane/main');
		for (const pid of before) killQuietly(pid);
		await eventually(
			'the node is back',
			async () => {
				const { code } = await world.run('run', '-n', hostname(), '--', 'true');
				return code === 0 && world.pids('control-plane/main').some((pid) => !before.includes(pid));
			},
			90_000,
		);
	}

	async function listed(): Promise<readonly Listed[]> {
		return (await world.json<{ recordings: Listed[] }>('terminal', 'recordings')).recordings;
	}

	/** The recording that goes on, once it holds a line of this text: its row is there before anything is shown. */
	async function recordedWith(line: string): Promise<Listed> {
		const folder = join(world.data, 'control-plane/recordings/open');
		return await eventually(`${line} is recorded`, async () => {
			const open = (await listed()).find(({ state }) => state === 'RECORDING_STATE_RECORDING');
			return open && readFileSync(join(folder, `${open.id}.cast`), 'utf8').includes(`"${line}\\r\\n`) && open;
		});
	}

	test('is recorded, replayed, verified; what has no terminal is not recorded', async () => {
		await inTerminal('exec', hostname(), '-t', '--', 'sh', '-c', 'printf "hello from a \\033[1mrecording\\033[0m\\n"');
		const recording = await eventually('it is sealed', async () =>
			(await listed()).find(({ state }) => state === 'RECORDING_STATE_SEALED'),
		);
		expect(recording.truncated).toBe('');
		expect((await world.run('terminal', 'replay', recording.terminalId)).stdout).toContain(
			'hello from a \u001b[1mrecording',
		);
		expect(await world.run('terminal', 'verify', recording.id)).toMatchObject({
			code: 0,
			stdout: expect.stringContaining('exactly what was sealed'),
		});
		expect((await world.run('exec', hostname(), '--', 'sh', '-c', 'echo quiet')).stdout).toBe('quiet\n');
		expect(await listed()).toHaveLength(1);
	});

	test('that a kill -9 of the control plane cuts is completed, marked truncated, and goes on in another part', async () => {
		const goOn = `${world.root}-go-on`;
		const running = inTerminal(
			'exec',
			hostname(),
			'-t',
			'--',
			'sh',
			'-c',
			`echo before; until [ -e ${goOn} ]; do sleep 0.1; done; echo after`,
		);
		const open = await recordedWith('before');
		for (const pid of world.pids('control-plane/main')) killQuietly(pid);
		const cut = await eventually(
			'it is completed',
			async () =>
				(await listed().catch(() => [])).find(({ id, state }) => id === open.id && state === 'RECORDING_STATE_SEALED'),
			90_000,
		);
		expect(cut.truncated).toMatch(/control plane stopped/);
		await eventually(
			'another part has begun',
			async () => (await listed()).some(({ terminalId, id }) => terminalId === open.terminalId && id !== open.id),
			60_000,
		);
		writeFileSync(goOn, '');
		await running;
		rmSync(goOn);
		await eventually('all parts are sealed', async () =>
			(await listed())
				.filter(({ terminalId }) => terminalId === open.terminalId)
				.every(({ state }) => state === 'RECORDING_STATE_SEALED'),
		);
		const replayed = await world.run('terminal', 'replay', open.terminalId);
		expect(replayed.stdout).toMatch(/before[\s\S]*\[gap: what came between [\s\S]*before[\s\S]*after/);
		expect((await world.run('terminal', 'verify', open.terminalId)).code).toBe(0);
	});

	test('what it showed while the control plane was stopped is missed, and its screen is in the next part, with nobody there', async () => {
		const goOn = `${world.root}-go-on`;
		const [daemon = 0] = world.pids('control-plane/main');
		const program = [
			'echo before',
			`while [ -e /proc/${daemon} ]; do sleep 0.02; done`,
			'echo hidden-$((40+2))',
			`until [ -e ${goOn} ]; do sleep 0.1; done`,
			'echo after',
		].join('; ');
		const running = inTerminal('exec', hostname(), '-t', '--', 'sh', '-c', program);
		const open = await recordedWith('before');
		process.kill(daemon, 'SIGTERM');
		const parts = async () =>
			(await listed().catch(() => [])).filter(({ terminalId }) => terminalId === open.terminalId);
		await eventually('another part has begun', async () => (await parts()).length === 2, 60_000);
		writeFileSync(goOn, '');
		await running;
		rmSync(goOn);
		await eventually('both are sealed', async () =>
			(await parts()).every(({ state }) => state === 'RECORDING_STATE_SEALED'),
		);
		expect((await parts()).map(({ truncated }) => truncated)).toEqual([
			'',
			'the control plane stopped before the terminal did',
		]);
		const replayed = await world.run('terminal', 'replay', open.terminalId);
		expect(replayed.stdout).toMatch(
			/before[\s\S]*\[truncated: [\s\S]*\[gap: output bytes \d+ to \d+ never came \(nothing was recorded then\)[\s\S]*hidden-42[\s\S]*after/,
		);
		expect(await world.run('terminal', 'verify', open.terminalId)).toMatchObject({
			code: 0,
			stdout: expect.stringMatching(/gaps: +1, of \d+ bytes/),
		});
	});

	test('below the floor: by best effort it goes on and says so, fail-closed there is no terminal, and why is shown', async () => {
		await restartWith('free_floor = "1024TiB"');
		const open = await inTerminal('exec', hostname(), '-t', '--', 'sh', '-c', 'echo works; sleep 5');
		expect(open).toMatch(/NOT recorded/);
		expect(open).toContain('works');
		await restartWith('free_floor = "1024TiB"\nmode = "fail_closed"');
		const refused = await inTerminal('exec', hostname(), '-t', '--', 'sh', '-c', 'sleep 1; echo works');
		expect(refused).toMatch(/only opened with a recording/);
		expect(refused).not.toContain('works');
	});

	test('fail-closed there is no command without a terminal either, unless the setting says so', async () => {
		await restartWith('mode = "fail_closed"');
		// It may be a shell, and would have no recording: not so a copy.
		const unrecorded = () => world.run('exec', hostname(), '--', 'echo', 'fine');
		const pipe = await unrecorded();
		expect(pipe).toMatchObject({ stdout: '', stderr: expect.stringMatching(/-t \(--tty\).*unrecorded_exec/) });
		expect(pipe.code).toBe(255);
		// Refused before anything begins on the node, not ended there.
		const all = await world.json<{ terminals: { command?: string }[] }>('terminal', 'list', '--all');
		expect(all.terminals.filter(({ command }) => command === 'echo fine')).toEqual([]);
		const copied = `${world.root}-copied`;
		writeFileSync(copied, '');
		expect((await world.run('cp', copied, `${hostname()}:${copied}-again`)).code).toBe(0);
		for (const path of [copied, `${copied}-again`]) rmSync(path);
		await restartWith('mode = "fail_closed"\nunrecorded_exec = true');
		expect((await unrecorded()).stdout).toBe('fine\n');
		const opened = await world.json<{ terminals: { command?: string }[] }>('terminal', 'list', '--all');
		expect(opened.terminals.filter(({ command }) => command === 'echo fine')).toHaveLength(1);
	});
});
