import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { readVitestCounts, recordCounts } from './results.ts';

/**
 * `npm test`: sets up what the tests need, runs every kind but `architecture` (which `npm run check` runs), and ends
 * with the counts. Arguments go to vitest: `npm test -- --project unit kit`.
 */
const root = join(import.meta.dirname, '..');
const cache = join(root, 'test/.cache');
const report = join(cache, `vitest-${process.pid}.json`);
const PROJECTS = ['unit', 'contract', 'integration', 'isolation', 'conformance', 'sim'];

mkdirSync(cache, { recursive: true });
const inCi = process.env.CI !== undefined;
const tools = spawnSync('sh', [join(root, 'test/install-tools.sh'), ...(inCi ? ['--required'] : [])], {
	stdio: 'inherit',
});
if (tools.status !== 0) process.exit(1);

const args = process.argv.slice(2);
const selection = args.length > 0 ? args : PROJECTS.flatMap((project) => ['--project', project]);
const vitest = join(root, 'node_modules/vitest/vitest.mjs');
const reporting = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
const { status } = spawnSync(process.execPath, [vitest, 'run', ...selection, ...reporting], {
	cwd: root,
	stdio: 'inherit',
});
const { passed, failed, skipped } = readVitestCounts(report);
// CI has installed everything: what is skipped there is a hole.
const counts = { passed, failed: failed + (inCi ? skipped : 0) };
rmSync(report, { force: true });
recordCounts(counts);
process.stdout.write(
	`test: ${passed} passed, ${failed} failed, ${skipped} skipped${inCi && skipped > 0 ? ' (in CI a failure)' : ''}\n`,
);
process.exitCode = status === 0 && counts.failed === 0 ? 0 : 1;
