import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';

/** Both daemons as a unit starts them: what they would run with, and what keeps them from starting. */
const root = join(import.meta.dirname, '..', '..');
const folder = mkdtempSync(join(tmpdir(), 'daemon-config-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function gpuaas(argv: readonly string[], env: Readonly<Record<string, string>> = {}) {
	const { PATH = '', HOME = '' } = process.env;
	const { status, stdout, stderr } = spawnSync(join(root, 'gpuaas'), [...argv], {
		env: { PATH, HOME, ...env },
		encoding: 'utf8',
		timeout: 60_000,
	});
	return { status, stdout, stderr };
}

function file(name: string, lines: readonly string[]): string {
	const path = join(folder, name);
	writeFileSync(path, `${lines.join('\n')}\n`, { mode: 0o600 });
	return path;
}

const DAEMONS = [
	{ start: ['control-plane', 'serve'], section: 'api', key: 'port', misspelt: 'portt', set: 'ops.port=1234' },
	{
		start: ['agent', 'run'],
		section: 'tasks',
		key: 'running_max',
		misspelt: 'runing_max',
		set: 'core.log_level=debug',
	},
] as const;

describe.each(DAEMONS)('gpuaas $start', ({ start, section, key, misspelt, set }) => {
	const data = join(folder, section);

	test('--print-config shows each value with its source, and starts nothing', () => {
		const config = file(`${section}.toml`, [`[${section}]`, `${key} = 47`]);
		const env = { GPUAAS_CORE_DATA: data };
		const { status, stdout, stderr } = gpuaas([...start, '--config', config, '--set', set, '--print-config'], env);
		expect([status, stderr]).toEqual([0, '']);
		const lines = stdout.split('\n');
		const sourceOf = (line: string) => lines[lines.indexOf(line) - 1];
		const [, setKey = '', setValue = ''] = /\.(.*)=(.*)/.exec(set) ?? [];
		const text = Number.isNaN(Number(setValue)) ? `"${setValue}"` : setValue;
		expect(sourceOf(`${key} = 47`)).toContain(`from file ${config}:2:1`);
		expect(sourceOf(`${setKey} = ${text}`)).toContain('from flag');
		expect(sourceOf(`data = "${data}"`)).toContain('from env GPUAAS_CORE_DATA');
		expect(stdout).toContain('; from default\n');
		expect(readdirSync(folder)).not.toContain(section);
	});

	test('an unknown key stops it, with its place and what was meant', () => {
		const config = file(`${section}-bad.toml`, ['', `[${section}]`, `${misspelt} = 1`]);
		const known = gpuaas([...start, '--config', config, '--data', data]);
		expect(known.status).toBe(2);
		expect(known.stderr).toContain(`${config}:3:1: no such key ${section}.${misspelt}, did you mean ${key}?`);
		const flag = gpuaas([...start, '--data', data, '--set', 'nosuch.key=1']);
		expect([flag.status, flag.stderr]).toEqual([2, expect.stringContaining('flag nosuch.key: no such setting')]);
		const env = gpuaas([...start, '--data', data], { GPUAAS_NO_SUCH: '1' });
		expect([env.status, env.stderr]).toEqual([2, expect.stringContaining('env GPUAAS_NO_SUCH: no such setting')]);
		expect(readdirSync(folder)).not.toContain(section);
	});
});
