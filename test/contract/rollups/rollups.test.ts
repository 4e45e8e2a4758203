import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { RollupChunk } from '../../../control-plane/store/port/rollups.ts';
import { RollupFile } from '../../../control-plane/store/sqlite/rollups.ts';

const MINUTE = 60_000;
let folder: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'gpuaas-rollups-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function chunk(nodeId: string, minute: number, bytes = 8): RollupChunk {
	return { nodeId, fromMs: minute * MINUTE, untilMs: (minute + 10) * MINUTE, blob: Buffer.alloc(bytes, minute) };
}

const path = () => join(folder, 'history.db');

describe('rollups', () => {
	test('a span gives the chunks that touch it, of that node, oldest first, and survives a restart', async () => {
		{
			await using rollups = new RollupFile({ path: path() });
			await rollups.append([chunk('a', 10), chunk('b', 10), chunk('a', 0), chunk('a', 20)]);
			const minutes = async (from: number, until: number, max = 10) =>
				(await rollups.read('a', from * MINUTE, until * MINUTE, max)).map(({ fromMs }) => fromMs / MINUTE);
			expect(await minutes(0, 30)).toEqual([0, 10, 20]);
			expect(await minutes(10, 20)).toEqual([10]);
			expect(await minutes(9, 21)).toEqual([0, 10, 20]);
			expect(await minutes(30, 40)).toEqual([]);
			expect(await minutes(0, 30, 2)).toEqual([0, 10]);
		}
		await using again = new RollupFile({ path: path() });
		expect(await again.read('b', 0, 60 * MINUTE, 10)).toEqual([chunk('b', 10)]);
	});

	test('nobody else can read the file', async () => {
		await using _rollups = new RollupFile({ path: path() });
		expect(statSync(path()).mode & 0o777).toBe(0o600);
	});

	test('trimming removes what is too old, and the oldest while there is too much', async () => {
		await using rollups = new RollupFile({ path: path() });
		await rollups.append([chunk('a', 0), chunk('a', 10), chunk('a', 20)]);
		expect(await rollups.trim(15 * MINUTE, 1e9)).toBe(1);
		expect((await rollups.read('a', 0, 1e12, 10)).length).toBe(2);
		for (let round = 0; round < 6; round += 1)
			await rollups.append(Array.from({ length: 200 }, (_, index) => chunk('b', 30 + index, 4000)));
		const before = await rollups.bytes();
		let deleted = 0;
		for (let turn = 0; turn < 5 && (await rollups.bytes()) > 1e6; turn += 1) deleted += await rollups.trim(0, 1e6);
		expect(deleted).toBeGreaterThan(900);
		expect(await rollups.bytes()).toBeLessThan(Math.min(before, 1.1e6));
		expect(await rollups.read('a', 0, 1e12, 10)).toEqual([]);
	});

	test('a broken file is moved aside and history begins anew', async () => {
		for (const damage of ['noise', 'cut'] as const) {
			const moved: string[] = [];
			await using rollups = new RollupFile({ path: path() });
			await rollups.append(Array.from({ length: 50 }, (_, index) => chunk('a', index, 4000)));
			await rollups[Symbol.asyncDispose]();
			if (damage === 'noise') writeFileSync(path(), 'this is no database, but text of somebody else\n'.repeat(100));
			else truncateSync(path(), statSync(path()).size - 8192);
			const damaged = readFileSync(path());
			await using anew = new RollupFile({ path: path(), onBroken: (aside) => moved.push(aside) });
			expect(moved).toEqual([`${path()}.broken`]);
			expect(readFileSync(`${path()}.broken`)).toEqual(damaged);
			expect(await anew.read('a', 0, 1e12, 10)).toEqual([]);
			await anew.append([chunk('a', 1)]);
			expect(await anew.read('a', 0, 1e12, 10)).toHaveLength(1);
		}
	});
});
