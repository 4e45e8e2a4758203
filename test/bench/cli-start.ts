import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { assert } from '../../kit/assert.ts';
import { systemClock } from '../../kit/clock.ts';
import { percentile } from './measure.ts';
import { atMost, type Row } from './row.ts';

/**
 * The command's start, as a shell and its completion feel it: from spawn to exit of `gpuaas version`, and of
 * `gpuaas completion bash` beside it. The reference is a Node that does nothing. n is the number of starts.
 */
const GPUAAS = fileURLToPath(new URL('../../gpuaas', import.meta.url));

export const row: Row = {
	name: 'cli-start',
	what: 'start of the command: gpuaas version, median of n',
	unit: 'ms',
	per: 'starts',
	reference: 'node -e 0, median of n',
	targets: [
		atMost(120, 'version <= 120 ms', ({ value }) => value.median),
		atMost(120, 'completion <= 120 ms', ({ also }) => also.completionMs?.median),
	],
	sizes: { full: [1, 10, 100], quick: [1, 10] },
	repetitions: { full: 3, quick: 1 },
	budgetSeconds: 35,
	async open() {
		const home = mkdtempSync(join(tmpdir(), 'gpuaas-bench-cli-'));
		const env = { PATH: process.env.PATH ?? '', HOME: home, GPUAAS_CONFIG_DIR: home };
		const start = (command: string, argv: readonly string[]) => {
			const startedMs = systemClock.monotonic();
			const { status } = spawnSync(command, argv, { env, stdio: ['ignore', 'ignore', 'inherit'] });
			assert(status === 0, `${command} ${argv.join(' ')} works`);
			return systemClock.monotonic() - startedMs;
		};
		// Once, for the compile cache that every later start of a machine has.
		start(GPUAAS, ['version']);
		return {
			async run(n) {
				const versionMs: number[] = [];
				const completionMs: number[] = [];
				const nodeMs: number[] = [];
				for (let done = 0; done < n; done += 1) {
					versionMs.push(start(GPUAAS, ['version']));
					completionMs.push(start(GPUAAS, ['completion', 'bash']));
					nodeMs.push(start(process.execPath, ['-e', '0']));
				}
				return {
					value: percentile(versionMs, 50),
					reference: percentile(nodeMs, 50),
					also: { completionMs: percentile(completionMs, 50) },
				};
			},
			async [Symbol.asyncDispose]() {
				rmSync(home, { recursive: true, force: true });
			},
		};
	},
};
