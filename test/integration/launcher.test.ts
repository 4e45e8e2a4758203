import { spawnSync } from 'node:child_process';
import {
	chmodSync,
	copyFileSync,
	existsSync,
	mkdirSync,
	mkdtempSync,
	realpathSync,
	rmSync,
	statSync,
	symlinkSync,
	writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

/** ./gpuaas and `npm run up` as shell programs: a checkout with a stub for cli/main.ts that prints what it was given. */
const root = join(import.meta.dirname, '..', '..');
const scratch = realpathSync(mkdtempSync(join(tmpdir(), 'gpuaas launcher ')));
const checkout = join(scratch, 'check out');
const home = join(scratch, 'home');
const command = join(checkout, 'gpuaas');
const STUB = `const given: readonly string[] = process.argv.slice(2);
process.stdout.write(JSON.stringify({ node: process.version, given, cache: process.env['NODE_COMPILE_CACHE'] ?? null }));`;

interface Answer {
	readonly node: string;
	readonly given: readonly string[];
	readonly cache: string | null;
}

function run(program: string, args: readonly string[], options: { cwd?: string; env?: Record<string, string> } = {}) {
	const env = { PATH: '/usr/bin:/bin', HOME: home, ...options.env };
	const { status, stdout, stderr } = spawnSync(program, args, { cwd: options.cwd ?? '/', env, encoding: 'utf8' });
	return { status, stdout, stderr, answer: () => JSON.parse(stdout) as Answer };
}

beforeAll(() => {
	for (const folder of ['packaging', 'cli', 'proto']) mkdirSync(join(checkout, folder), { recursive: true });
	mkdirSync(home);
	for (const path of [
		'gpuaas',
		'package.json',
		'package-lock.json',
		'packaging/node.sh',
		'packaging/npm-up.sh',
		'packaging/with-node.sh',
	]) {
		copyFileSync(join(root, path), join(checkout, path));
	}
	symlinkSync(join(root, 'node_modules'), join(checkout, 'node_modules'));
	writeFileSync(join(checkout, 'cli/main.ts'), STUB);
});

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe('./gpuaas', () => {
	test('runs the pinned Node and passes every argument as it is', () => {
		const given = ['run', '--', 'sh', '-c', 'echo "a b"; exit 3', '', '*', '$HOME'];
		const { answer, stderr } = run(command, given);
		expect(answer()).toMatchObject({ node: expect.stringMatching(/^v24\./), given });
		expect(stderr).toBe('');
	});

	test('is found through chains of symlinks, absolute and relative, and on PATH', () => {
		symlinkSync(command, join(scratch, 'first'));
		mkdirSync(join(scratch, 'bin'));
		symlinkSync('../first', join(scratch, 'bin/gpuaas'));
		expect(run(join(scratch, 'bin/gpuaas'), ['x']).answer().given).toEqual(['x']);
		expect(
			run('sh', ['-c', 'gpuaas y'], { env: { PATH: `${join(scratch, 'bin')}:/usr/bin:/bin` } }).answer().given,
		).toEqual(['y']);
		expect(run('sh', ['gpuaas', 'z'], { cwd: checkout }).answer().given).toEqual(['z']);
	});

	test('gives the exit code of the program', () => {
		writeFileSync(join(checkout, 'cli/main.ts'), 'process.exitCode = 42;');
		expect(run(command, []).status).toBe(42);
		writeFileSync(join(checkout, 'cli/main.ts'), STUB);
	});

	test('keeps compiled code in the own cache, readable by nobody else', () => {
		expect(run(command, []).answer().cache).toBe(join(home, '.cache/gpuaas/compile-cache'));
		expect(statSync(join(home, '.cache/gpuaas')).mode & 0o077).toBe(0);
		const own = join(scratch, 'own');
		mkdirSync(own);
		expect(run(command, [], { env: { XDG_CACHE_HOME: own } }).answer().cache).toBe(join(own, 'gpuaas/compile-cache'));
	});

	test.each([
		['no home', { HOME: '' }],
		['a home that is not ours', { HOME: '/nonexistent' }],
		['a relative cache folder', { XDG_CACHE_HOME: 'cache' }],
		['a cache folder that is a link', { XDG_CACHE_HOME: join(scratch, 'linked') }],
	])('keeps nothing with %s', (_, env) => {
		mkdirSync(join(scratch, 'linked'), { recursive: true });
		if (!existsSync(join(scratch, 'linked/gpuaas'))) symlinkSync(home, join(scratch, 'linked/gpuaas'));
		expect(run(command, [], { env }).answer().cache).toBeNull();
	});

	test('says what is missing when there are neither dependencies nor npm', () => {
		const bare = join(scratch, 'bare');
		mkdirSync(join(bare, 'packaging'), { recursive: true });
		mkdirSync(join(bare, 'proto'));
		for (const path of ['gpuaas', 'package-lock.json', 'packaging/node.sh'])
			copyFileSync(join(root, path), join(bare, path));
		const tools = toolsFolder('bare-tools', ['dirname', 'uname', 'readlink', 'mkdir']);
		const { status, stderr } = run('/bin/sh', [join(bare, 'gpuaas'), 'version'], { env: { PATH: tools } });
		expect(status).toBe(125);
		expect(stderr).toContain('npm is not installed. Install Node.js 20 or later with npm');
	});

	test('installs the dependencies once, with one line, and not on standard output', () => {
		const fresh = join(scratch, 'fresh');
		for (const folder of ['packaging', 'cli', 'proto']) mkdirSync(join(fresh, folder), { recursive: true });
		for (const path of ['gpuaas', 'package-lock.json', 'packaging/node.sh'])
			copyFileSync(join(root, path), join(fresh, path));
		writeFileSync(join(fresh, 'cli/main.ts'), STUB);
		// In npm's place: leaves what `npm ci` leaves, and says what it was asked.
		const tools = toolsFolder('npm-tools', ['dirname', 'uname', 'readlink', 'mkdir', 'ln', 'sh']);
		writeFileSync(
			join(tools, 'npm'),
			`#!/bin/sh\necho "npm $*"\nln -s ${JSON.stringify(join(root, 'node_modules'))} node_modules\n`,
		);
		chmodSync(join(tools, 'npm'), 0o755);
		const first = run('/bin/sh', [join(fresh, 'gpuaas'), 'a'], { env: { PATH: tools } });
		expect(first.answer().given).toEqual(['a']);
		expect(first.stderr).toMatch(/^gpuaas: installing dependencies .*\nnpm ci --ignore-scripts .*\n$/);
		expect(run('/bin/sh', [join(fresh, 'gpuaas'), 'b'], { env: { PATH: tools } }).stderr).toBe('');
	});

	test('refuses a Node that is too old, and says which', () => {
		const installed = join(scratch, 'installed');
		mkdirSync(join(installed, 'packaging'), { recursive: true });
		for (const path of ['gpuaas', 'packaging/node.sh']) copyFileSync(join(root, path), join(installed, path));
		const tools = toolsFolder('old-tools', ['dirname', 'uname', 'readlink', 'mkdir']);
		writeFileSync(join(tools, 'node'), '#!/bin/sh\necho 20.20.2\n');
		chmodSync(join(tools, 'node'), 0o755);
		const { status, stderr } = run('/bin/sh', [join(installed, 'gpuaas')], { env: { PATH: tools } });
		expect(status).toBe(125);
		expect(stderr).toContain(`${join(tools, 'node')} is 20.20.2`);
	});
});

describe('npm run up', () => {
	const npm = (...args: string[]) =>
		run('npm', ['run', '--silent', 'up', ...args], { cwd: checkout, env: { npm_config_target_arch: 'x64' } });

	test('passes what follows --', () => {
		expect(npm('--', '--json', '--api-port', '3').answer().given).toEqual(['up', '--json', '--api-port', '3']);
		expect(npm().answer().given).toEqual(['up']);
	});

	test.each([['--json'], ['--api-port', '3'], ['--data=/x'], ['--ops-port=1'], ['--a-typo']])(
		'refuses what npm kept: %s',
		(...args) => {
			const { status, stdout, stderr } = npm(...args);
			expect(status).not.toBe(0);
			expect(stdout).not.toContain('given');
			expect(stderr).toContain(`npm run up -- ${args[0]?.split('=')[0]}`);
		},
	);
});

test('scripts of the checkout run on the pinned Node with its tools on PATH', () => {
	writeFileSync(
		join(checkout, 'print.ts'),
		'process.stdout.write(JSON.stringify({ node: process.version, given: [process.cwd(), process.env.PATH] }));',
	);
	const { node, given } = run('sh', [join(checkout, 'packaging/with-node.sh'), 'print.ts']).answer();
	expect(node).toMatch(/^v24\./);
	expect(given[0]).toBe(checkout);
	expect(given[1]?.startsWith(`${join(checkout, 'node_modules/.bin')}:`)).toBe(true);
});

/** A PATH with only these programs. */
function toolsFolder(name: string, programs: readonly string[]): string {
	const folder = join(scratch, name);
	mkdirSync(folder);
	for (const program of programs) {
		const found = ['/usr/bin', '/bin'].map((path) => join(path, program)).find((path) => existsSync(path));
		symlinkSync(found ?? program, join(folder, program));
	}
	return folder;
}
