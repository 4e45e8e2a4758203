import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { AnchorFile } from './anchor-file.ts';

let folder: string;
let path: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'anchor-'));
	path = join(folder, 'audit-heads.jsonl');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const head = (size: number) => ({ size, note: `origin\n${size}\nchain\n\n— key signature\n`, atMs: size });

function sizes(file: string): number[] {
	return readFileSync(file, 'utf8')
		.split('\n')
		.filter((line) => line !== '')
		.map((line) => Number(JSON.parse(line).size));
}

test('heads are appended, one line each, and the newest is known after a restart', async () => {
	{
		await using anchor = await AnchorFile.open(path);
		expect(anchor.newest()).toBeUndefined();
		await anchor.append(head(1));
		await anchor.append(head(256));
		expect(anchor.newest()).toEqual(head(256));
		await expect(anchor.append(head(256))).rejects.toThrow('larger');
	}
	await using again = await AnchorFile.open(path);
	expect(again.newest()).toEqual(head(256));
	await again.append(head(300));
	expect(sizes(path)).toEqual([1, 256, 300]);
});

test('a line that a crash cut off is dropped, wherever it was cut', async () => {
	{
		await using anchor = await AnchorFile.open(path);
		await anchor.append(head(1));
		await anchor.append(head(2));
	}
	const whole = readFileSync(path);
	const first = whole.indexOf('\n') + 1;
	for (let end = first; end < whole.length; end += 7) {
		writeFileSync(path, whole.subarray(0, end));
		await using anchor = await AnchorFile.open(path);
		expect(anchor.newest()?.size).toBe(1);
		await anchor.append(head(5));
		expect(sizes(path)).toEqual([1, 5]);
	}
});

test('a last line that is whole and no head is not passed over', async () => {
	writeFileSync(path, `${JSON.stringify(head(1))}\n{"size":2}\n`);
	await expect(AnchorFile.open(path)).rejects.toMatchObject({ reason: 'AUDIT_UNAVAILABLE' });
	writeFileSync(path, `${JSON.stringify(head(1))}\nnot JSON\n`);
	await expect(AnchorFile.open(path)).rejects.toMatchObject({ reason: 'AUDIT_UNAVAILABLE' });
	writeFileSync(path, 'x'.repeat(200_000));
	await expect(AnchorFile.open(path)).rejects.toMatchObject({ reason: 'AUDIT_UNAVAILABLE' });
	expect(statSync(path).size).toBe(200_000);
});

test('a full file makes room for the next and the oldest is dropped', async () => {
	const options = { fileBytesMax: 250, oldFilesMax: 2 };
	{
		await using anchor = await AnchorFile.open(path, options);
		for (let size = 1; size <= 12; size += 1) await anchor.append(head(size));
	}
	const kept = [`${path}.2`, `${path}.1`, path].flatMap(sizes);
	expect(kept.at(-1)).toBe(12);
	expect(kept).toEqual(kept.map((_, index) => 12 - kept.length + 1 + index));
	expect(kept.length).toBeLessThan(12);
	expect(existsSync(`${path}.3`)).toBe(false);
	for (const file of [`${path}.2`, `${path}.1`, path]) expect(statSync(file).size).toBeLessThanOrEqual(250);
	await using again = await AnchorFile.open(path, options);
	expect(again.newest()?.size).toBe(12);
});

test('after a crash between two files the newest head is found in the older one', async () => {
	writeFileSync(`${path}.1`, `${JSON.stringify(head(7))}\n`);
	await using anchor = await AnchorFile.open(path);
	expect(anchor.newest()?.size).toBe(7);
	await anchor.append(head(8));
	expect(sizes(path)).toEqual([8]);
});

test('a file that can’t be written says so, and works again when it can', async () => {
	const anchor = await AnchorFile.open(path);
	await anchor.append(head(1));
	await anchor[Symbol.asyncDispose]();
	await expect(anchor.append(head(2))).rejects.toMatchObject({ reason: 'AUDIT_UNAVAILABLE' });
	expect(anchor.newest()?.size).toBe(1);
});
