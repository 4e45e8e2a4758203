import { expect, test } from 'vitest';
import { jsonLine } from './json-line.ts';

test('a line of JSON drives no terminal and turns no text around, and has the same value', () => {
	const all = Array.from({ length: 0x3000 }, (_, code) => String.fromCharCode(code)).join('');
	const document = { [all]: [all, 'é漢🙂'] };
	const line = jsonLine(document);
	expect(line.endsWith('\n')).toBe(true);
	expect(line.slice(0, -1)).not.toMatch(/[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/u);
	expect(JSON.parse(line)).toEqual(document);
	expect(line, 'what is harmless stays legible').toContain('é漢🙂');
	expect(jsonLine('\u009b31m\u202e')).toBe('"\\u009b31m\\u202e"\n');
});
