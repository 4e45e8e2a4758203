import { mkdtempSync, readdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { lockDatabase } from './database-lock.ts';

let folder: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'database-lock-'));
});

it('lets one control plane on a file, and the next once it stopped or was killed', () => {
	const path = join(folder, 'control-plane.db');
	const release = lockDatabase(path, 'a');
	const held = { code: 'FAILED_PRECONDITION', message: expect.stringContaining(`process ${process.pid} runs`) };
	expect(() => lockDatabase(`sqlite:${path}`, 'b')).toThrow(expect.objectContaining(held));
	release();
	lockDatabase(path, 'c')();
	const killed = { instanceId: 'd', pid: process.pid, startTimeTicks: 1, bootId: 'another' };
	writeFileSync(join(`${path}.lock`, 'lock-0000000009'), JSON.stringify(killed));
	lockDatabase(path, 'e')();
});

it('locks nothing where replicas share a server', () => {
	lockDatabase('postgres://gpuaas@localhost/gpuaas', 'a');
	lockDatabase('postgres://gpuaas@localhost/gpuaas', 'b');
	expect(readdirSync(folder)).toEqual([]);
});
