import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { announcement, commandName } from './announcement.ts';

const folder = {
	root: '/srv/gpuaas',
	ca: '/srv/gpuaas/control-plane/ca.pem',
	ports: { api: 65_001, gateway: 65_002, enroll: 65_003, ops: 65_004 },
};
const screen = (firstTask: string) =>
	announcement({ folder, nodeName: 'gpu-07', command: './gpuaas', firstTask, bold: (text) => text });

describe('what up says', () => {
	test('fits on a screen of 80 columns and 24 rows, the prompt too', () => {
		const lines = screen('ok: hello from gpu-07, as nobody').split('\n');
		expect(lines.length).toBeLessThan(24);
		for (const line of lines) expect(line.length, line).toBeLessThanOrEqual(80);
	});

	test('says where everything is, and how it ends', () => {
		const said = screen('ok: hello');
		for (const part of [':65001', ':65004/metrics', folder.root, folder.ca, 'first task  ok: hello', 'Ctrl-C stops'])
			expect(said).toContain(part);
		expect(said).toContain('./gpuaas shell gpu-07');
		expect(screen('')).toContain('Ctrl-C detaches; everything goes on.');
		expect(screen('')).not.toContain('first task');
	});
});

describe('what to type is', () => {
	const installed = mkdtempSync(join(tmpdir(), 'gpuaas-path-'));
	writeFileSync(join(installed, 'gpuaas'), '#!/bin/sh\n');
	chmodSync(join(installed, 'gpuaas'), 0o755);

	test.each([
		['in the checkout', '/src/gpuaas', `${installed}:/bin`, './gpuaas'],
		['where it is installed', '/home/ada', `/nowhere::${installed}`, 'gpuaas'],
		['elsewhere', '/home/ada', '/nowhere:/also-nowhere', '/src/gpuaas/gpuaas'],
		['without any PATH', '/home/ada', undefined, '/src/gpuaas/gpuaas'],
	])('%s', async (_, cwd, path, command) => {
		const env = path === undefined ? {} : { PATH: path };
		expect(await commandName({ cwd, env }, '/src/gpuaas/gpuaas')).toBe(command);
	});
});
