import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Result } from './row.ts';
import { ROWS } from './rows.ts';
import { tableOf } from './table.ts';

/**
 * `npm run bench [-- ROW...] [--quick] [--patient] [--profile]`: measures, prints the table, and writes one JSON file a
 * row. Only a full run replaces the committed results; a quick or profiled one goes to the cache. `--patient` measures
 * the largest sizes also where they take long. `--profile` leaves a CPU profile of every process of a row, which
 * `profile-main.ts` sums up.
 */
const args = process.argv.slice(2);
const quick = args.includes('--quick');
const profile = args.includes('--profile');
const named = args.filter((arg) => !arg.startsWith('--'));
const unknown = [
	...named.filter((name) => !(name in ROWS)),
	...args.filter((arg) => arg.startsWith('--') && !['--quick', '--patient', '--profile'].includes(arg)),
];
if (unknown.length > 0) {
	process.stderr.write(`bench: unknown ${unknown.join(', ')}; rows: ${Object.keys(ROWS).join(', ')}\n`);
	process.exit(2);
}

const cache = join(import.meta.dirname, '../.cache/bench');
const results = quick || profile ? cache : join(import.meta.dirname, 'results');
mkdirSync(results, { recursive: true });
const measured: Result[] = [];
let failed = 0;
for (const name of named.length > 0 ? named : Object.keys(ROWS)) {
	const file = join(results, `${name}.json`);
	process.stderr.write(`bench: ${name} ...\n`);
	if ((await runRow(name, file)) === 0) measured.push(JSON.parse(readFileSync(file, 'utf8')) as Result);
	else failed += 1;
}
process.stdout.write(`${tableOf(measured)}\n`);
process.exitCode = failed === 0 ? 0 : 1;

function runRow(name: string, file: string): Promise<number> {
	const folder = join(cache, 'profiles', name);
	const options = profile ? ['--cpu-prof', `--cpu-prof-dir=${folder}`] : [];
	const env = { ...process.env, ...(profile ? { NODE_OPTIONS: options.join(' ') } : {}) };
	const argv = [
		join(import.meta.dirname, 'row-main.ts'),
		name,
		file,
		...args.filter((arg) => arg !== '--profile' && arg.startsWith('--')),
	];
	return new Promise((resolve, reject) => {
		const child = spawn(process.execPath, argv, { stdio: ['ignore', 'inherit', 'inherit'], env });
		child.on('error', reject);
		child.on('close', (code) => resolve(code ?? 1));
	});
}
