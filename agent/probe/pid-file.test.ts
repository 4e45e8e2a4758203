import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { PidFile } from './pid-file.ts';

let folder: string;
let path: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'pid-file-'));
	path = join(folder, 'pid.json');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

it('one that lives is known by the next agent, until it is taken off', () => {
	new PidFile(path).write(process.pid);
	const next = new PidFile(path);
	expect(next.living()).toBe(process.pid);
	next.remove();
	expect(next.living()).toBeUndefined();
});

it('a number that is another process by now, or nonsense, keeps nobody from starting one', () => {
	new PidFile(path).write(process.pid);
	const written = readFileSync(path, 'utf8');
	const identity = JSON.parse(written) as { readonly startTimeTicks: number };
	for (const other of [{ startTimeTicks: identity.startTimeTicks - 1 }, { bootId: 'before' }, { pid: 'x' }]) {
		writeFileSync(path, JSON.stringify({ ...identity, ...other }));
		expect(new PidFile(path).living()).toBeUndefined();
	}
	writeFileSync(path, '{');
	expect(new PidFile(path).living()).toBeUndefined();
	writeFileSync(path, written);
	expect(new PidFile(path).living()).toBe(process.pid);
});
