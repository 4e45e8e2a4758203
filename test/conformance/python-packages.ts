import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { tool } from '../tools.ts';

const run = promisify(execFile);

/** An interpreter in a virtual environment of its own with these packages, pinned, installed once a set. */
export async function pythonWith(name: string, packages: readonly string[]): Promise<string> {
	const folder = join(import.meta.dirname, '../.cache', name);
	const python = join(folder, 'bin/python');
	const done = join(folder, `${packages.join('_')}.done`);
	if (existsSync(done)) return python;
	rmSync(folder, { recursive: true, force: true });
	mkdirSync(folder, { recursive: true });
	await run(tool('python3'), ['-m', 'venv', folder]);
	await run(python, ['-m', 'pip', 'install', '--retries', '10', '--quiet', '--disable-pip-version-check', ...packages]);
	writeFileSync(done, '');
	return python;
}
