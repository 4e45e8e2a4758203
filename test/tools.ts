import { accessSync, constants, globSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Programs that tests use and we didn't write. CI has them all (test/install-tools.sh), so there nothing is skipped; on
 * a laptop `test.skipIf(lacks('promtool'))` leaves out what can't run, and vitest counts it as skipped.
 */
const required = process.env.CI !== undefined || process.env.TEST_REQUIRE_TOOLS === '1';

/** Folders beside PATH: Debian keeps the server programs of PostgreSQL out of it. */
const MORE_FOLDERS = ['/usr/lib/postgresql/*/bin', '/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/local/go/bin'];

/** The absolute path of a program, or undefined. */
export function toolPath(name: string): string | undefined {
	const folders = [
		...(process.env.PATH ?? '').split(':'),
		...MORE_FOLDERS.flatMap((pattern) => globSync(pattern).sort().reverse()),
	];
	return folders.map((folder) => join(folder, name)).find(isExecutable);
}

/** Whether one of these programs, or the right to be `root`, is missing; in CI that is an error. */
export function lacks(...names: readonly string[]): boolean {
	const missing = names.filter((name) => (name === 'root' ? process.getuid?.() !== 0 : toolPath(name) === undefined));
	if (missing.length > 0 && required)
		throw new Error(`CI lacks ${missing.join(', ')}: run test/install-tools.sh and the tests as root`);
	return missing.length > 0;
}

/** As `toolPath`; throws when it is missing. */
export function tool(name: string): string {
	const path = toolPath(name);
	if (path === undefined) throw new Error(`${name} not found: run test/install-tools.sh as root`);
	return path;
}

function isExecutable(path: string): boolean {
	try {
		accessSync(path, constants.X_OK);
		return true;
	} catch {
		return false;
	}
}
