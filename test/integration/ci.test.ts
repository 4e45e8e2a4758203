import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

/** `.ci/run` itself, in a folder where npm is a script that counts and ends as it is told. */
const root = join(import.meta.dirname, '../..');
let folder = '';
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'ci-'));
	for (const name of ['.ci', 'test', 'bin']) mkdirSync(join(folder, name));
	copyFileSync(join(root, '.ci/run'), join(folder, '.ci/run'));
	writeFileSync(join(folder, 'test/install-tools.sh'), 'exit 0\n');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** For the arguments that a part gives to npm, what that part does. */
function run(parts: { readonly ci?: string; readonly check?: string; readonly test?: string }) {
	const npm = join(folder, 'bin/npm');
	const { ci = 'true', check = 'true', test: tests = 'true' } = parts;
	const cases = [`ci\\ *) ${ci} ;;`, `run\\ --silent\\ check) ${check} ;;`, `test\\ *) ${tests} ;;`];
	writeFileSync(npm, `#!/bin/sh\necho "npm $*"\ncase "$*" in\n${cases.join('\n')}\nesac\n`);
	chmodSync(npm, 0o755);
	const env = { ...process.env, PATH: `${join(folder, 'bin')}${delimiter}${process.env.PATH}` };
	const { status, stdout } = spawnSync('bash', [join(folder, '.ci/run')], { env, encoding: 'utf8' });
	return { status, last: stdout.trimEnd().split('\n').at(-1), ran: stdout.match(/^npm .*/gm) };
}

const counts = (passed: number, failed: number) =>
	`echo "${passed} ${failed}" >>"$RESULTS_FILE"; exit ${failed > 0 ? 1 : 0}`;

test('ends with the sum over all runners', () => {
	expect(run({ check: counts(40, 0), test: counts(1700, 0) })).toMatchObject({
		status: 0,
		last: '1740 passed, 0 failed',
	});
	const failed = run({ check: counts(39, 1), test: counts(1698, 2) });
	expect(failed).toMatchObject({ status: 1, last: '1737 passed, 3 failed' });
	expect(failed.ran).toEqual([
		expect.stringMatching(/^npm ci --ignore-scripts /),
		'npm run --silent check',
		'npm test --silent',
	]);
});

test('a part that ends badly without a count is a failure', () => {
	expect(run({ check: counts(40, 0), test: 'exit 7' })).toMatchObject({ status: 1, last: '40 passed, 1 failed' });
});

test('without dependencies nothing else is run, and nothing is green', () => {
	const { status, last, ran } = run({ ci: 'exit 1', check: counts(40, 0), test: counts(1700, 0) });
	expect({ status, last, ran: ran?.length }).toEqual({ status: 1, last: '0 passed, 1 failed', ran: 1 });
});
