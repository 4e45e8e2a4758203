import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

/**
 * The package as people get it: packed, installed globally under a folder of its own, run from elsewhere with nothing
 * on PATH. Twice: with `prepack` (types stripped into dist/), and as npm packs it where scripts are off.
 */
const root = join(import.meta.dirname, '..', '..');
const scratch = mkdtempSync(join(tmpdir(), 'gpuaas-package-'));
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
/** Without what npm says of this checkout to the scripts that it runs; the machine's own settings (proxy, CA) stay. */
const OF_THIS_RUN =
	/^(npm_(lifecycle|package|command|execpath|node_execpath|config_(local_prefix|global_prefix|prefix|ignore_scripts))|INIT_CWD|VITEST|GPUAAS_)/;
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !OF_THIS_RUN.test(name)));

/** The commit's files as they are now, apart from the checkout: packing writes dist/ into the tree. */
function copyTree(): string {
	const tree = join(scratch, 'tree');
	const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
		cwd: root,
		encoding: 'utf8',
	});
	for (const path of listed.split('\0')) {
		if (path === '' || !existsSync(join(root, path))) continue;
		mkdirSync(dirname(join(tree, path)), { recursive: true });
		copyFileSync(join(root, path), join(tree, path));
	}
	symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'));
	return tree;
}

function npm(cwd: string, ...args: string[]): string {
	return execFileSync('npm', args, {
		cwd,
		env,
		encoding: 'utf8',
		stdio: ['ignore', 'pipe', 'pipe'],
		maxBuffer: 64 * 1024 * 1024,
	});
}

/** Installs what `npm pack` makes with these options; returns the command. */
function install(tree: string, name: string, ...options: string[]): string {
	const folder = join(scratch, name);
	mkdirSync(folder);
	const [packed] = JSON.parse(npm(tree, 'pack', '--json', '--pack-destination', folder, ...options)) as {
		filename: string;
	}[];
	const prefix = join(folder, 'prefix');
	npm(
		folder,
		'install',
		'--global',
		'--prefix',
		prefix,
		'--prefer-offline',
		'--ignore-scripts',
		'--no-audit',
		'--no-fund',
		join(folder, packed?.filename ?? ''),
	);
	return join(prefix, 'bin', 'gpuaas');
}

function run(command: string, ...args: string[]): string {
	return execFileSync(command, args, {
		cwd: '/',
		env: { HOME: join(scratch, 'home'), PATH: '/usr/bin:/bin' },
		encoding: 'utf8',
	});
}

let tree: string;

beforeAll(() => {
	mkdirSync(join(scratch, 'home'));
	tree = copyTree();
});

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe.each([
	{ name: 'built', options: ['--ignore-scripts=false'], hasDist: true },
	{ name: 'unbuilt', options: ['--ignore-scripts=true'], hasDist: false },
])('a package $name', ({ name, options, hasDist }) => {
	let command: string;
	let installed: string;

	beforeAll(() => {
		command = install(tree, name, ...options);
		installed = join(dirname(command), '../lib/node_modules/gpuaas');
	});

	test('answers with its version', () => {
		expect(run(command, 'version')).toContain(version);
		expect(existsSync(join(installed, 'dist'))).toBe(hasDist);
	});

	test('leaves the tree as it was', () => {
		for (const made of ['dist', 'npm-shrinkwrap.json']) expect(existsSync(join(tree, made))).toBe(false);
	});

	test('has what it needs, and no tests', () => {
		const files = execFileSync('find', ['.', '-path', './node_modules', '-prune', '-o', '-type', 'f', '-print'], {
			cwd: installed,
			encoding: 'utf8',
		}).split('\n');
		expect(files).toContain('./LICENSE');
		expect(files.filter((path) => path.endsWith('.sql')).length).toBeGreaterThan(0);
		expect(files.filter((path) => /\.test\.[tj]s$|^\.\/test\/|-fixture\.|tsconfig/.test(path))).toEqual([]);
	});

	test('starts control plane and agent, and runs a first task', async () => {
		const data = join(scratch, `${name}-data`);
		const child = spawn(command, ['up', '--json', '--data', data], {
			cwd: '/',
			env: { HOME: join(scratch, 'home'), PATH: '/usr/bin:/bin' },
			stdio: ['ignore', 'pipe', 'inherit'],
		});
		const ended = once(child, 'exit');
		const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
		const first = await lines.next();
		expect(JSON.parse(String(first.value))).toMatchObject({ ready: true, firstTask: { exitCode: 0 } });
		child.kill('SIGINT');
		const [code] = (await ended) as [number | null];
		expect([0, 130]).toContain(code);
	});
});

test('an unpacked package installs exactly the versions of its lock', () => {
	const folder = join(scratch, 'locked');
	mkdirSync(folder);
	const [packed] = JSON.parse(npm(tree, 'pack', '--json', '--pack-destination', folder, '--ignore-scripts=false')) as {
		filename: string;
	}[];
	execFileSync('tar', ['xzf', packed?.filename ?? ''], { cwd: folder });
	const unpacked = join(folder, 'package');
	npm(unpacked, 'ci', '--omit=dev', '--prefer-offline', '--ignore-scripts', '--no-audit', '--no-fund');
	const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
		packages: Record<string, { version?: string; dev?: boolean; optional?: boolean }>;
	};
	const locked = Object.entries(packages).filter(([path, { dev }]) => path !== '' && dev !== true);
	expect(locked.length).toBeGreaterThan(50);
	const others = locked.filter(([path, { version: wanted, optional }]) => {
		const manifest = join(unpacked, path, 'package.json');
		if (optional === true && !existsSync(manifest)) return false;
		return wanted !== (JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }).version;
	});
	expect(others).toEqual([]);
	expect(existsSync(join(unpacked, 'node_modules', 'vitest'))).toBe(false);
	expect(run(join(unpacked, 'gpuaas'), 'version')).toContain(version);
});
