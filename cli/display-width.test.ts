import { describe, expect, test } from 'vitest';
import { cutCells, displayWidth, padCells } from './display-width.ts';
import { printTable } from './io.ts';
import { testIo } from './test-io.ts';

describe('cells of a terminal', () => {
	test.each([
		['', 0],
		['gpu-07', 6],
		['Größe', 5],
		['漢字', 4],
		['한국어', 6],
		['ｆｕｌｌ', 8],
		['e\u0301te\u0301', 3],
		['🚀', 2],
		['𠀀', 2],
	])('%j takes %i', (text, cells) => expect(displayWidth(text)).toBe(cells));

	test('a text is cut and padded to cells, and never in the middle of a letter', () => {
		expect(padCells('漢字', 6)).toBe('漢字  ');
		expect(padCells('toolong', 3)).toBe('toolong');
		expect(cutCells('gpu', 3)).toBe('gpu');
		expect(cutCells('gpu-07', 4)).toBe('gpu…');
		expect(cutCells('漢字漢字', 4)).toBe('漢…');
		expect(cutCells('漢字', 0)).toBe('');
	});

	test('columns of a table stand below each other, whatever its names are written in', async () => {
		const io = testIo();
		const rows = [
			['漢字プロジェクト', 'one'],
			['plain', 'two'],
			['e\u0301te\u0301', 'three'],
		];
		await printTable(io, ['NAME', 'X'], rows, '');
		const lines = io.out().trimEnd().split('\n');
		const at = ['X', 'one', 'two', 'three'].map((word, index) => {
			const line = lines[index] ?? '';
			return displayWidth(line.slice(0, line.lastIndexOf(word)));
		});
		expect(at).toEqual([18, 18, 18, 18]);
	});
});
