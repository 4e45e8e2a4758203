import { cpSync, existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { dirname, join } from 'node:path';
import { rewriteSpecifiers } from './specifiers.ts';

/**
 * Builds `dist/` for the npm package: the programs' `.ts` files with their types stripped (Node refuses `.ts` under
 * node_modules), everything beside them that they read (migrations, templates, openapi.json), and a package.json;
 * and beside it the lock, by the one name that npm packs.
 * Run by `npm pack` where scripts are on, and `postpack` removes it: a dist that stays would be packed again later, stale.
 * `npm run prepack` therefore only tries it.
 */
const root = join(import.meta.dirname, '..');
const dist = join(root, 'dist');
const FOLDERS = ['agent', 'channel', 'cli', 'control-plane', 'health', 'kit', 'pki', 'proto'];
/** What only development needs. */
const LEFT_OUT = [
	/(\.test|-contract|-fixture)\.ts$/,
	/(^|\/)tsconfig\.json$/,
	/(^|\/)fixtures\//,
	/^proto\/(openapi|vendor)\//,
	/^proto\/(generate\.ts|breaking(\.ts|-waivers\.txt))$/,
	/\.proto$/,
];

const problems: string[] = [];
const needed: { readonly by: string; readonly path: string }[] = [];
rmSync(dist, { recursive: true, force: true });
const files = FOLDERS.flatMap((folder) => globSync(`${folder}/**/*`, { cwd: root, withFileTypes: true }))
	.filter((entry) => entry.isFile())
	.map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
	.filter((path) => !LEFT_OUT.some((pattern) => pattern.test(path)));
for (const path of files) {
	const target = join(dist, path);
	mkdirSync(dirname(target), { recursive: true });
	if (!path.endsWith('.ts')) cpSync(join(root, path), target);
	else writeFileSync(`${target.slice(0, -3)}.js`, compile(path, readFileSync(join(root, path), 'utf8')));
}
for (const { by, path } of needed)
	if (!existsSync(path)) problems.push(`${by}: imports ${path}, which the package leaves out`);

const { name, version, type } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<string, unknown>;
writeFileSync(join(dist, 'package.json'), `${JSON.stringify({ name, version, type })}\n`);
if (problems.length > 0) {
	process.stderr.write(`prepack: the package would not run:\n  ${problems.join('\n  ')}\n`);
	rmSync(dist, { recursive: true, force: true });
	process.exit(1);
}
const shrinkwrap = join(root, 'npm-shrinkwrap.json');
cpSync(join(root, 'package-lock.json'), shrinkwrap);
const packing = ['pack', 'publish'].includes(process.env.npm_command ?? '');
if (!packing) for (const made of [dist, shrinkwrap]) rmSync(made, { recursive: true });
process.stderr.write(`prepack: ${files.length} files${packing ? ' in dist/' : ' would be in dist/'}\n`);

function compile(path: string, source: string): string {
	const rewritten = rewriteSpecifiers(path, source);
	problems.push(...rewritten.problems);
	needed.push(...rewritten.modules.map((module) => ({ by: path, path: join(dist, dirname(path), module) })));
	return stripTypeScriptTypes(rewritten.text);
}
