import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const root = join(import.meta.dirname, '..', '..');

/** Makes `folder` another checkout of the product, of this release and speaking these versions to hosts and agents. */
export function copyProduct(folder: string, release: string, spoken: readonly number[]): string {
	const argv = ['ls-files', '-z', '--cached', '--others', '--exclude-standard'];
	for (const path of execFileSync('git', argv, { cwd: root, encoding: 'utf8' }).split('\0')) {
		// Of a checkout whose dependencies are a link, as of a mutant's, git lists that too.
		if (path === '' || path === 'node_modules' || path.startsWith('test/') || !existsSync(join(root, path))) continue;
		mkdirSync(dirname(join(folder, path)), { recursive: true });
		copyFileSync(join(root, path), join(folder, path));
	}
	symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
	replaceIn(join(folder, 'package.json'), /"version": "[^"]+"/, `"version": "${release}"`);
	const greeting = join(folder, 'agent/process-host/greeting.ts');
	replaceIn(
		greeting,
		/spokenVersions: readonly number\[\] = \[[^\]]+\]/,
		`spokenVersions: readonly number[] = [${spoken}]`,
	);
	if (!spoken.some((version) => version >= SUCCESSION_VERSION)) forgetSuccession(folder);
	return join(folder, 'gpuaas');
}

const SUCCESSION_VERSION = 2;

/** Hosts before it know no `retire`: an agent that asks one for it all the same is refused. */
function forgetSuccession(folder: string): void {
	for (const host of ['pty-host', 'process-host'])
		replaceIn(join(folder, 'agent', host, 'server.ts'), /case 'retire':/, "case 'not known yet':");
}

function replaceIn(path: string, what: RegExp, by: string): void {
	const text = readFileSync(path, 'utf8');
	if (!what.test(text)) throw new Error(`${path} has no ${what}`);
	writeFileSync(path, text.replace(what, by));
}
