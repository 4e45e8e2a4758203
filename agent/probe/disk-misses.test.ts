import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { bootId } from '../../kit/process-identity.ts';
import { DiskMisses } from './disk-misses.ts';

let folder: string;
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'disk-misses-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

it('the first miss is that of this boot, until there was an answer', () => {
	const miss = (sinceMs: number, boot: string) =>
		writeFileSync(join(folder, 'sda.miss'), JSON.stringify({ sinceMs, bootId: boot }));
	miss(1, 'another');
	const misses = new DiskMisses(folder);
	expect(misses.add('sda', 2)).toEqual({ sinceMs: 2, isFirst: true });
	expect(misses.add('sda', 3)).toEqual({ sinceMs: 2, isFirst: false });
	misses.end('sda');
	misses.end('sda');
	expect(misses.add('sda', 4)).toEqual({ sinceMs: 4, isFirst: true });
	miss(5, bootId());
	expect(misses.add('sda', 6)).toEqual({ sinceMs: 5, isFirst: false });
	writeFileSync(join(folder, 'sda.miss'), '{');
	expect(misses.add('sda', 7)).toEqual({ sinceMs: 7, isFirst: true });
});

it('one that can not be put on record is none of the first: otherwise each would be', () => {
	expect(new DiskMisses(join(folder, 'none')).add('sda', 1)).toEqual({ sinceMs: 1, isFirst: false });
});
