import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { silentLogger } from '../kit/log.ts';
import { readPolicy } from './host-side.ts';
import { DENY_ALL } from './tasks/policy.ts';

const folder = mkdtempSync(join(tmpdir(), 'gpuaas-policy-'));
afterAll(() => rmSync(folder, { recursive: true }));

const refusalOf = (path: string) => {
	try {
		return readPolicy(path, silentLogger);
	} catch (error) {
		return error;
	}
};

test('a host without a policy file does nothing for anybody, and says so', () => {
	const warned: string[] = [];
	const log = { ...silentLogger, warn: (message: string) => void warned.push(message) };
	const policy = readPolicy(join(folder, 'missing.toml'), log);
	expect(policy).toBe(DENY_ALL);
	expect(policy.tasks.kinds).toEqual([]);
	expect(policy.terminal.modes).toEqual([]);
	expect(warned).toEqual(['no policy file: every task will be refused']);
});

test('a policy that can not be read or understood stops the agent, whatever it would have allowed', () => {
	mkdirSync(join(folder, 'folder.toml'));
	expect(refusalOf(join(folder, 'folder.toml'))).toMatchObject({ reason: 'CONFIG_INVALID' });
	writeFileSync(join(folder, 'misspelt.toml'), '[tasks]\nkinds = ["run"]\n[run]\nuser = ["bob"]\n');
	expect(refusalOf(join(folder, 'misspelt.toml'))).toMatchObject({
		reason: 'CONFIG_INVALID',
		message: expect.stringContaining('run.user'),
	});
});
