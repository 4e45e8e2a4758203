import { spawn } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { add, type Counts, readVitestCounts, recordCounts } from './results.ts';

/**
 * `npm run check`: everything that can be said about the code without running it. Each step prints one line, and its
 * output only when it fails. `npm run check -- types lint` runs some of them.
 */
interface Step {
	readonly name: string;
	/** What to do when it fails. */
	readonly repair: string;
	readonly args: readonly string[];
	/** Where vitest leaves its counts; other steps count as one. */
	readonly report?: string;
}

const root = join(import.meta.dirname, '..');
const cache = join(root, 'test/.cache');
const report = join(cache, `check-${process.pid}.json`);
const bin = (name: string) => join(root, 'node_modules', name);

const STEPS: readonly Step[] = [
	{ name: 'types', repair: 'the errors are above', args: [bin('typescript/bin/tsc'), '-b'] },
	{
		name: 'architecture',
		repair: 'arrows: test/architecture/layers.json; style: test/architecture/bans.ts; RPCs: surface.test.ts',
		args: [
			bin('vitest/vitest.mjs'),
			'run',
			'--project',
			'architecture',
			'--reporter=dot',
			'--reporter=json',
			`--outputFile.json=${report}`,
		],
		report,
	},
	{
		name: 'lint',
		repair: 'npm run format',
		args: [bin('@biomejs/biome/bin/biome'), 'check', '--diagnostic-level=warn', '.'],
	},
	{ name: 'proto lint', repair: 'the errors are above', args: [bin('@bufbuild/buf/bin/buf'), 'lint'] },
	{
		name: 'proto breaking',
		repair: 'keep the old field, or waive it in proto/breaking-waivers.txt',
		args: [join(root, 'proto/breaking.ts')],
	},
	{ name: 'generated code', repair: 'npm run generate', args: [join(root, 'proto/generate.ts'), '--check'] },
	{
		name: 'dead exports',
		repair: 'delete what nothing uses, or stop exporting it',
		args: [bin('knip/bin/knip.js'), '--no-progress'],
	},
];

mkdirSync(cache, { recursive: true });
const wanted = process.argv.slice(2);
const queue = STEPS.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
let counts: Counts = { passed: 0, failed: 0 };
await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, worker));
rmSync(report, { force: true });
recordCounts(counts);
process.stdout.write(`check: ${counts.passed} passed, ${counts.failed} failed\n`);
process.exitCode = counts.failed === 0 && queue.length === 0 && counts.passed > 0 ? 0 : 1;

async function worker(): Promise<void> {
	for (let step = queue.shift(); step !== undefined; step = queue.shift()) {
		const { ok, output } = await run(step);
		counts = add(
			counts,
			step.report === undefined ? { passed: ok ? 1 : 0, failed: ok ? 0 : 1 } : readVitestCounts(step.report),
		);
		process.stdout.write(ok ? `ok    ${step.name}\n` : `${output}\nFAIL  ${step.name}: ${step.repair}\n`);
	}
}

async function run({ args }: Step): Promise<{ ok: boolean; output: string }> {
	// buf is a JavaScript launcher too, so every step runs on the pinned Node.
	const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
	const chunks: Buffer[] = [];
	child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
	child.stderr.on('data', (chunk: Buffer) => chunks.push(chunk));
	const status = await new Promise((resolve) => child.on('close', resolve));
	return { ok: status === 0, output: Buffer.concat(chunks).toString() };
}
