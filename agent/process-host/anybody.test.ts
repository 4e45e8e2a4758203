import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { lookAsAnybody } from './anybody.ts';

let folder = '';
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'anybody-'));
	chmodSync(folder, 0o755);
	for (const [name, mode] of [
		['open', 0o755],
		['home', 0o700],
	] as const) {
		mkdirSync(join(folder, name));
		writeFileSync(join(folder, name, 'file'), '');
		chmodSync(join(folder, name), mode);
	}
	symlinkSync('../home/file', join(folder, 'open', 'in'));
	symlinkSync(join(folder, 'home', 'none'), join(folder, 'open', 'none'));
	symlinkSync('../open', join(folder, 'open', 'self'));
	symlinkSync('loop', join(folder, 'open', 'loop'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function seen(path: string): string {
	const found = lookAsAnybody(join(folder, path));
	if (typeof found === 'string') return found;
	return found.isDirectory() ? 'folder' : 'file';
}

test('what lies where everybody may go is seen, through links too', () => {
	expect(['open', 'open/file', 'open/self/self/file', 'home', 'open/self'].map(seen)).toEqual([
		'folder',
		'file',
		'file',
		'folder',
		'folder',
	]);
	expect(['none', 'open/none2', 'open/file/x', 'open/loop', `open/${'x'.repeat(5000)}`].map(seen)).toEqual(
		Array(5).fill('MISSING'),
	);
});

test('below a folder that is closed everything looks the same, also through a link', () => {
	expect(
		['home/file', 'home/none', 'open/in', 'open/none', 'home/..'].map((path) => lookAsAnybody(`${folder}/${path}`)),
	).toEqual(Array(5).fill('HIDDEN'));
});
