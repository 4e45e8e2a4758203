import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { systemClock } from '../../kit/clock.ts';
import { ROOT } from '../architecture/sources.ts';
import { PostgresServer } from '../fakes/postgres.ts';
import { runMatrix } from './matrix.ts';
import { MODES, openMode } from './modes.ts';
import { type IsolationReport, reportOf, summary } from './report.ts';

/**
 * `npm run isolation [-- --out FILE]`: proves that no tenant reaches another's things, by each layer alone, and leaves the
 * proof as JSON. Ends with 1 when a case failed.
 */
async function runModes(): Promise<IsolationReport['modes']> {
	await using server = await PostgresServer.start({ durable: false });
	const done: IsolationReport['modes'][number][] = [];
	for (const mode of MODES) {
		await using open = await openMode(mode, server);
		done.push({ ...mode, results: await runMatrix(open) });
	}
	return done;
}

const [flag, file] = process.argv.slice(2);
if (flag !== undefined && (flag !== '--out' || file === undefined)) {
	process.stderr.write('npm run isolation [-- --out FILE]\n');
	process.exit(2);
}
const out = file === undefined ? join(ROOT, 'test/.cache/isolation.json') : resolve(file);
const report = await reportOf(await runModes(), systemClock.now());
mkdirSync(dirname(out), { recursive: true });
writeFileSync(out, `${JSON.stringify(report, null, '\t')}\n`);
process.stdout.write(`${summary(report)}      report: ${out}\n`);
process.exit(report.failed === 0 ? 0 : 1);
