import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type Counts, readVitestCounts } from '../results.ts';
import { type Mutant, mutate, readAreas } from './mutants.ts';

/**
 * `npm run mutants -- [AREA...] [--match TEXT]`: breaks each place that the lists name, in a copy of the checkout, and
 * runs the test that must see it. The test has to be green first, red then; whatever survives is printed with its
 * promise, and the exit code is 1.
 */
const root = join(import.meta.dirname, '../..');
/** Ends a test that the mutant makes hang where the runner's own limits don't; it then counts as a survivor. */
const HANG_MS = 420_000;
/** Of one test: what a mutant makes wait for ever is seen sooner than the projects' own limits would end it. */
const TEST_MS_MAX = 60_000;
const RUNNER = ['node_modules/vitest/vitest.mjs', 'run', '--no-file-parallelism', `--testTimeout=${TEST_MS_MAX}`];

const args = process.argv.slice(2);
const matchAt = args.indexOf('--match');
const text = matchAt === -1 ? '' : (args.splice(matchAt, 2)[1] ?? '');
const areas = readAreas(root);
const unknown = args.filter((name) => !areas.some((area) => area.name === name));
if (unknown.length > 0) {
	process.stderr.write(`mutants: no ${unknown.join(', ')}; areas: ${areas.map(({ name }) => name).join(', ')}\n`);
	process.exit(2);
}
const chosen = areas
	.filter(({ name }) => args.length === 0 || args.includes(name))
	.flatMap(({ mutants }) => mutants)
	.filter(({ promise, file }) => promise.includes(text) || file.includes(text));

const copy = mkdtempSync(join(tmpdir(), 'gpuaas-mutants-'));
try {
	copyCheckout();
	process.exitCode = tryAll();
} finally {
	rmSync(copy, { recursive: true, force: true });
}

function copyCheckout(): void {
	const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: root });
	for (const name of listed.toString().split('\0').filter(Boolean)) {
		mkdirSync(dirname(join(copy, name)), { recursive: true });
		cpSync(join(root, name), join(copy, name), { verbatimSymlinks: true });
	}
	// Tests of the architecture ask git which files there are.
	execFileSync('git', ['init', '--quiet'], { cwd: copy });
	execFileSync('git', ['add', '--all'], { cwd: copy });
	for (const shared of ['node_modules', 'test/.cache']) symlinkSync(join(root, shared), join(copy, shared));
}

function tryAll(): number {
	const counts = { killed: 0, survived: 0 };
	const greens = new Map<string, boolean>();
	for (const mutant of chosen) {
		const verdict = startsGreen(mutant, greens) ? verdictOf(mutant) : 'NOT GREEN';
		counts[verdict === 'killed' ? 'killed' : 'survived'] += 1;
		process.stdout.write(`${verdict.padEnd(9)} ${mutant.promise}  (${mutant.file}; ${mutant.test})\n`);
	}
	process.stdout.write(`mutants: ${counts.killed} killed, ${counts.survived} survived\n`);
	return counts.survived === 0 ? 0 : 1;
}

/** NO TEST: the title names none, or vitest shows less of it (it cuts long values). */
function verdictOf(mutant: Mutant): 'killed' | 'SURVIVED' | 'NO TEST' | 'HUNG' {
	const path = join(copy, mutant.file);
	const before = readFileSync(path, 'utf8');
	writeFileSync(path, mutate(before, mutant));
	try {
		const counts = run([mutant]);
		if (counts === undefined) return 'HUNG';
		if (counts.failed + counts.passed === 0) return 'NO TEST';
		return counts.failed > 0 ? 'killed' : 'SURVIVED';
	} finally {
		writeFileSync(path, before);
	}
}

/** The chosen tests of a file are tried together first, and one by one only where that is red. */
function startsGreen(mutant: Mutant, greens: Map<string, boolean>): boolean {
	const seen = (key: string, mutants: readonly Mutant[]) => {
		if (!greens.has(key)) greens.set(key, isGreen(run(mutants)));
		return greens.get(key) === true;
	};
	const together = chosen.filter(({ project, test }) => project === mutant.project && test === mutant.test);
	return seen(`${mutant.project} ${mutant.test}`, together) || seen(argumentsOf([mutant]).join(' '), [mutant]);
}

function isGreen(counts: Counts | undefined): boolean {
	return counts !== undefined && counts.failed === 0 && counts.passed > 0;
}

/** Of one file. Undefined: it hung. */
function run(mutants: readonly Mutant[]): Counts | undefined {
	const report = join(copy, 'mutant-report.json');
	rmSync(report, { force: true });
	const argv = [...RUNNER, ...argumentsOf(mutants), '--reporter=json', `--outputFile.json=${report}`];
	const ran = spawnSync(process.execPath, argv, {
		cwd: copy,
		stdio: 'ignore',
		timeout: HANG_MS,
		killSignal: 'SIGTERM',
	});
	return ran.error === undefined ? readVitestCounts(report) : undefined;
}

function argumentsOf(mutants: readonly Mutant[]): readonly string[] {
	const [{ project, test }] = mutants as readonly [Mutant];
	const titles = new Set(mutants.map(({ title }) => title));
	const named = [...titles].map((title) => RegExp.escape(title ?? '')).join('|');
	return ['--project', project, test, ...(titles.has(undefined) ? [] : ['-t', named])];
}
