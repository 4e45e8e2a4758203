import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * `buf breaking` against the last release, or the previous commit before there is one: an agent of the release before
 * must understand us. proto/breaking-waivers.txt holds what people decided to break, one `<file> <rule> <reason>` a line.
 */
const root = join(import.meta.dirname, '..');

interface Finding {
	readonly path: string;
	readonly start_line: number;
	readonly type: string;
	readonly message: string;
}

const base = findBase();
if (base === undefined) {
	process.stdout.write('proto breaking: there is no earlier contract to compare with\n');
} else {
	const findings = compare(base).filter((finding) => !isWaived(finding));
	for (const { path, start_line, type, message } of findings)
		process.stdout.write(`${path}:${start_line}: ${type}: ${message}\n`);
	process.stdout.write(`proto breaking: ${findings.length} incompatible changes since ${base}\n`);
	process.exitCode = findings.length === 0 ? 0 : 1;
}

/** Release tag, else HEAD while proto/ has uncommitted changes, else the commit before it. */
function findBase(): string | undefined {
	const candidates = [git('describe', '--tags', '--match', 'v[0-9]*', '--abbrev=0')];
	candidates.push(
		git('status', '--porcelain', '--', 'proto') === ''
			? git('rev-parse', '--verify', 'HEAD^')
			: git('rev-parse', '--verify', 'HEAD'),
	);
	return candidates.find(
		(candidate) => candidate !== undefined && git('cat-file', '-e', `${candidate}:buf.yaml`) !== undefined,
	);
}

function compare(against: string): Finding[] {
	// buf's clone of the repository must hold the commit, so it is named by its full id.
	const commit = git('rev-parse', `${against}^{commit}`) ?? against;
	const buf = join(root, 'node_modules/@bufbuild/buf/bin/buf');
	const { status, stdout, stderr } = spawnSync(
		process.execPath,
		[buf, 'breaking', '--against', `.git#ref=${commit}`, '--error-format=json'],
		{
			cwd: root,
			encoding: 'utf8',
		},
	);
	// 100: findings.
	if (status !== 0 && status !== 100) throw new Error(`buf breaking failed: ${stderr}`);
	return stdout
		.split('\n')
		.filter((line) => line !== '')
		.map((line) => JSON.parse(line) as Finding);
}

function isWaived({ path, type }: Finding): boolean {
	return readFileSync(join(root, 'proto/breaking-waivers.txt'), 'utf8')
		.split('\n')
		.filter((line) => line.trim() !== '' && !line.startsWith('#'))
		.some((line) => {
			const [file, rule, ...reason] = line.trim().split(/\s+/);
			return file === path && rule === type && reason.length > 0;
		});
}

function git(...args: readonly string[]): string | undefined {
	try {
		return execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
	} catch {
		return undefined;
	}
}
