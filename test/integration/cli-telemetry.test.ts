import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { fixtureFrame } from '../../control-plane/app/telemetry/frames-fixture.ts';
import { present } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { TelemetryFleet } from '../conformance/telemetry-fleet.ts';
import { eventually } from '../eventually.ts';
import { lacks } from '../tools.ts';

const GPUAAS = join(import.meta.dirname, '../../gpuaas');
const RESTORED = '\u001b[?25h\u001b[?1049l';

/** The commands that people read telemetry with, as processes, on a *simulated* fleet behind a real API. */
describe('telemetry on the command line', () => {
	let fleet: TelemetryFleet;
	const folder = mkdtempSync(join(tmpdir(), 'gpuaas-cli-telemetry-'));
	const env = { ...process.env, GPUAAS_CONFIG_DIR: folder, TERM: 'xterm' };

	beforeAll(async () => {
		fleet = await TelemetryFleet.start(3);
		const { url, rootPem, operatorKey } = fleet.world;
		const context = { address: url, caPem: rootPem, key: operatorKey };
		writeFileSync(join(folder, 'contexts.json'), JSON.stringify({ current: 'fleet', contexts: { fleet: context } }), {
			mode: 0o600,
		});
	});
	afterAll(async () => {
		await fleet[Symbol.asyncDispose]();
		rmSync(folder, { recursive: true, force: true });
	});

	/** Not `spawnSync`: the API that it talks to is in this process. */
	function run(...args: string[]): Promise<{ code: number | null; out: string }> {
		return new Promise((resolve) => {
			const child = spawn(GPUAAS, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
			let out = '';
			child.stdout.on('data', (data) => (out += String(data)));
			child.stderr.on('data', (data) => (out += String(data)));
			child.on('close', (code) => resolve({ code, out }));
		});
	}

	const json = async (...args: string[]) => JSON.parse((await run(...args, '--json')).out) as Record<string, unknown>;

	test('lists and shows GPUs, and says that they are simulated', async () => {
		const { gpus } = (await json('gpu', 'list')) as { gpus: { uuid: string; node: string; simulated: boolean }[] };
		expect(new Set(gpus.map(({ node }) => node))).toEqual(new Set(['gpu-0', 'gpu-1', 'gpu-2']));
		expect(gpus.every(({ simulated }) => simulated)).toBe(true);
		const shown = await run('gpu', 'show', 'GPU-00000001');
		expect(shown.out).toMatch(/simulated: these values come from a test double/);
		expect(shown.out).toMatch(/model: +NVIDIA A100/);
		expect((await run('gpu', 'show', 'GPU-0')).out).toMatch(/begin with "GPU-0"; give more/);
		expect((await run('gpu', 'show', 'GPU-9')).code).toBe(1);
	});

	test('watches samples and asks for history', async () => {
		const sample = await json('telemetry', 'watch', 'gpu-0', 'power.usage', '--count', '1');
		expect(sample).toMatchObject({
			name: 'gpu-0',
			simulated: true,
			things: [{ part: 'gpu', values: [{ key: 'power.usage' }] }],
		});
		// It has no disk; of what it has a minute may be over by now.
		expect((await run('telemetry', 'query', 'gpu-0', 'wear', '--part', 'disk')).out).toMatch(
			/nothing was measured then/,
		);
		expect((await run('telemetry', 'query', 'gpu-0', 'lod.1', '--part', 'host')).out).toMatch(/it has: .*load.1/);
		expect((await run('telemetry', 'watch', 'gpu-0', '--fast')).out).toMatch(/not connected/);
	});

	test('says how old a value is that is older than its sample', async () => {
		const { ingest } = fleet.world.deps.telemetry;
		const node = present(fleet.nodes[0], 'a node');
		// The fleet goes on: what is shown may be of a frame that has all.
		await eventually('one is shown', async () => {
			ingest.ingest(node.id, fixtureFrame({ atMs: systemClock.now(), gpus: 1, hasSlow: false }));
			const { out } = await run('gpu', 'show', 'gpu-0/0');
			expect(out).toMatch(/^temperature.gpu: +[\d.]+ °C$/m);
			return /^memory.total: +[\d.]+ GiB, \d+ s old$/m.test(out);
		});
	});

	test('shows what a node consists of', async () => {
		expect(await json('node', 'inventory', 'gpu-2')).toMatchObject({
			inventory: { simulated: true, gpus: [{ index: 0 }] },
		});
		expect((await run('node', 'inventory', 'gpu-2')).out).toMatch(/MIG devices\n {2}3g\.40gb MIG-/);
	});

	test('top prints one screen where there is no terminal', async () => {
		const { code, out } = await run('top');
		expect(code).toBe(0);
		expect(out).toContain('SIMULATED GPUs');
		expect(out).not.toContain('\u001b');
		expect((await json('top')).nodes).toHaveLength(3);
	});

	describe.skipIf(lacks('script'))('top in a terminal', () => {
		/** `script` gives it a terminal of its own. */
		function open(columns = 80, rows = 24) {
			const command = `stty rows ${rows} cols ${columns}; exec ${GPUAAS} top --interval 500ms`;
			const child = spawn('script', ['-qec', command, '/dev/null'], { env, stdio: ['pipe', 'pipe', 'ignore'] });
			// Its terminal goes with it, and `top` with the terminal.
			onTestFinished(() => void child.kill());
			const screen = { text: '' };
			// Characters may come in pieces.
			child.stdout.setEncoding('utf8').on('data', (text: string) => {
				screen.text += text;
			});
			const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
			return { child, screen, ended };
		}

		test('takes keys, and gives the terminal back at the end', async () => {
			const { child, screen, ended } = open();
			await eventually('the first screen', () => screen.text.includes('UTIL▼'));
			child.stdin.write('p');
			await eventually('sorted by power', () => screen.text.includes('POWER▼'));
			child.stdin.write('\t');
			await eventually('by node', () => screen.text.includes('1x'));
			child.stdin.write('q');
			expect(await ended).toBe(0);
			expect(screen.text.startsWith('\u001b[?1049h\u001b[?25l')).toBe(true);
			expect(screen.text.trimEnd().endsWith(RESTORED)).toBe(true);
		});

		/** The lines of the last whole screen that was drawn. */
		function lastScreen(text: string): string[] {
			const end = text.lastIndexOf('\u001b[J');
			const drawn = text.slice(text.lastIndexOf('\u001b[H', end) + '\u001b[H'.length, end);
			// The terminal puts a return of its own before each end of a line.
			return drawn.split(/\r+\n/).map((line) => stripVTControlCharacters(line));
		}

		test.each([
			[80, 24, ['NODE', 'UTIL', 'POWER', 'TEMP', 'NOTE'], ['MODEL', 'LIMIT']],
			[200, 60, ['NODE', 'UTIL', 'LIMIT', 'CLOCK', 'AGE', 'MODEL', 'H100 80GB HBM3', 'NOTE'], []],
		])('fills a terminal of %i x %i, no line wider and none more, with what there is room for', async (...given) => {
			const [columns, rows, shown, hidden] = given;
			const { child, screen, ended } = open(columns, rows);
			await eventually(
				'the first screen',
				() => screen.text.includes('UTIL▼') && lastScreen(screen.text).length === rows,
			);
			const lines = lastScreen(screen.text);
			for (const line of lines) expect([...line]).toHaveLength(columns);
			for (const word of shown) expect(lines.join('\n')).toContain(word);
			for (const word of hidden) expect(lines.join('\n')).not.toContain(word);
			// One, one, and one with two MIG devices.
			expect(lines.filter((line) => line.startsWith('gpu-'))).toHaveLength(5);
			child.stdin.write('q');
			expect(await ended).toBe(0);
		});

		test.each(['SIGTERM', 'SIGHUP', 'SIGINT'])('gives it back on %s', async (signal) => {
			const { child, screen, ended } = open();
			await eventually('the first screen', () => screen.text.includes('UTIL▼'));
			// `script` hands signals to nobody: its child's child is the one.
			const own = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim();
			process.kill(Number(own), signal);
			await ended;
			expect(screen.text.trimEnd().endsWith(RESTORED)).toBe(true);
		});
	});
});
