import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/**
 * Generates what is committed under proto/: TypeScript in gen/ and openapi.json. With `--check` it changes nothing and
 * fails when what is committed differs from what the .proto files say. Generates beside the tree first, so that a
 * failed run leaves nothing half-written and unchanged files keep their time stamps.
 */
const root = join(import.meta.dirname, '..');
const check = process.argv.includes('--check');
const scratch = mkdtempSync(join(tmpdir(), 'gpuaas-generate-'));
try {
	const buf = join(root, 'node_modules/.bin/buf');
	execFileSync(buf, ['generate', '--output', scratch], { cwd: root, stdio: 'inherit' });
	execFileSync(buf, ['generate', '--template', 'proto/openapi/buf.gen.yaml', '--output', scratch], {
		cwd: root,
		stdio: 'inherit',
	});
	const differing = compare();
	if (!check) apply(differing);
	for (const path of differing) process.stderr.write(`${check ? 'differs' : 'updated'}: ${path}\n`);
	if (check && differing.length > 0) {
		process.stderr.write('generated files differ from proto/: run `npm run generate` and commit the result\n');
		process.exitCode = 1;
	}
} finally {
	rmSync(scratch, { recursive: true, force: true });
}

/** Paths under the root that are missing, stale or left over. */
function compare(): string[] {
	const wanted = [...list(scratch, 'proto/gen'), 'proto/openapi.json'];
	const present = list(root, 'proto/gen');
	const stale = wanted.filter((path) => read(join(root, path)) !== read(join(scratch, path)));
	return [...stale, ...present.filter((path) => !wanted.includes(path))];
}

function apply(paths: readonly string[]): void {
	for (const path of paths) {
		const text = read(join(scratch, path));
		if (text === undefined) rmSync(join(root, path));
		else {
			mkdirSync(dirname(join(root, path)), { recursive: true });
			writeFileSync(join(root, path), text);
		}
	}
}

function list(base: string, folder: string): string[] {
	try {
		const entries = readdirSync(join(base, folder), { recursive: true, withFileTypes: true });
		return entries
			.filter((entry) => entry.isFile())
			.map((entry) => join(entry.parentPath, entry.name).slice(base.length + 1));
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
		throw error;
	}
}

function read(path: string): string | undefined {
	try {
		return readFileSync(path, 'utf8');
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
		throw error;
	}
}
