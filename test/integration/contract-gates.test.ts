import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';

/** What `npm run check` holds the contract to, in a repository of its own whose one commit is the contract as it is. */
const root = join(import.meta.dirname, '../..');
const TASKS = 'proto/gpuaas/tasks/v1/tasks.proto';
const GENERATED = 'proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
let folder = '';

const git = (...args: string[]) =>
	execFileSync('git', ['-c', 'user.name=test', '-c', 'user.email=t@test', ...args], { cwd: folder });

beforeAll(() => {
	folder = mkdtempSync(join(tmpdir(), 'contract-'));
	const wanted = [
		'ls-files',
		'-z',
		'--cached',
		'--others',
		'--exclude-standard',
		'proto',
		'kit',
		'buf.yaml',
		'buf.gen.yaml',
	];
	for (const path of execFileSync('git', wanted, { cwd: root, encoding: 'utf8' }).split('\0')) {
		if (path === '' || !existsSync(join(root, path))) continue;
		mkdirSync(dirname(join(folder, path)), { recursive: true });
		cpSync(join(root, path), join(folder, path));
	}
	writeFileSync(join(folder, 'package.json'), '{"type":"module"}\n');
	writeFileSync(join(folder, '.gitignore'), 'node_modules\n');
	symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
	git('init', '--quiet');
	git('add', '.');
	git('commit', '--quiet', '--message', 'The contract');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeEach(() => void git('checkout', '--quiet', '.'));

function edit(path: string, find: string, replacement: string): void {
	const text = readFileSync(join(folder, path), 'utf8');
	expect(text.split(find), `${find} once in ${path}`).toHaveLength(2);
	writeFileSync(join(folder, path), text.replace(find, replacement));
}

function run(...args: string[]) {
	const path = `${join(root, 'node_modules/.bin')}:${process.env.PATH}`;
	const env = { ...process.env, PATH: path };
	const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: folder, env, encoding: 'utf8' });
	return { status, said: `${stdout}${stderr}` };
}

const breaking = () => run('proto/breaking.ts');
const lint = () => run('node_modules/@bufbuild/buf/bin/buf', 'lint');
const generated = () => run('proto/generate.ts', '--check');

const FIELD = '  uint32 max_attempts = 4';

test('a field that changes its number breaks the contract, until somebody decides so and says why', () => {
	expect(breaking()).toMatchObject({ status: 0, said: expect.stringContaining('no earlier contract') });
	edit(TASKS, FIELD, `  // A comment breaks nothing.\n${FIELD}`);
	expect(breaking()).toMatchObject({ status: 0, said: expect.stringContaining('0 incompatible changes') });
	edit(TASKS, FIELD, FIELD.replace('= 4', '= 40'));
	const { status, said } = breaking();
	expect(status).toBe(1);
	expect(said).toMatch(/tasks\.proto:\d+: FIELD_NO_DELETE: .*max_attempts/);
	const waive = (line: string) => {
		const file = join(folder, 'proto/breaking-waivers.txt');
		writeFileSync(file, `${readFileSync(file, 'utf8')}${line}\n`);
		return breaking();
	};
	expect(waive(`${TASKS} FIELD_NO_DELETE`), 'a waiver has a reason').toMatchObject({ status: 1 });
	expect(waive(`${TASKS} FIELD_SAME_TYPE never released`), 'and a rule').toMatchObject({ status: 1 });
	expect(waive(`${TASKS} FIELD_NO_DELETE never released`)).toMatchObject({ status: 0 });
});

test('a name against the standard is refused', () => {
	expect(lint()).toMatchObject({ status: 0 });
	edit(TASKS, FIELD, FIELD.replace('max_attempts', 'maxAttempts'));
	expect(lint()).toMatchObject({ status: 100, said: expect.stringContaining('lower_snake_case') });
});

test('what is committed is what the contract says, to the byte', () => {
	expect(generated()).toEqual({ status: 0, said: '' });
	const [lost, stray] = ['proto/gen/gpuaas/audit/v1/audit_pb.ts', 'proto/gen/gpuaas/tasks/v1/gone_pb.ts'];
	edit(TASKS, FIELD, `${FIELD.replace('max_attempts = 4', 'tries_max = 400')};\n${FIELD}`);
	rmSync(join(folder, lost));
	writeFileSync(join(folder, stray), '');
	const { status, said } = generated();
	rmSync(join(folder, stray));
	expect(status).toBe(1);
	for (const path of ['proto/openapi.json', GENERATED, lost, stray]) expect(said).toContain(`differs: ${path}\n`);
	expect(said).toContain('npm run generate');
	expect(existsSync(join(folder, lost)), 'a check changes nothing').toBe(false);
});
