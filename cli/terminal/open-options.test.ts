import { expect, test } from 'vitest';
import { testIo } from '../test-io.ts';
import { windowSize } from './open-options.ts';

test('a window without a size has the usual one, and an absurd one is cut to what a terminal takes', () => {
	const { stdout } = testIo();
	expect(windowSize({ stdout })).toEqual({ columns: 80, rows: 24 });
	const sizeOf = (columns: number, rows: number) => windowSize({ stdout: Object.assign(stdout, { columns, rows }) });
	expect(sizeOf(0, 0)).toEqual({ columns: 80, rows: 24 });
	expect(sizeOf(132, 50)).toEqual({ columns: 132, rows: 50 });
	expect(sizeOf(5000, 4000)).toEqual({ columns: 1000, rows: 1000 });
});
