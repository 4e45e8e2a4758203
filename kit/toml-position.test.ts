import { expect, test } from 'vitest';
import { positionOf } from './toml-position.ts';

test('finds headers and keys, also quoted, dotted, indented and in nested tables', () => {
	const text = [
		'# [a]',
		'x = 1',
		'[a]',
		'  k = 1',
		'"q k" = 2',
		'[a.b]',
		"'deep' = 3",
		'c.d = 4',
		'[[list]]',
		'e = 5',
	].join('\n');
	expect(positionOf(text, 'a')).toEqual({ line: 3, column: 2 });
	expect(positionOf(text, 'a', 'k')).toEqual({ line: 4, column: 3 });
	expect(positionOf(text, 'a', 'q k')).toEqual({ line: 5, column: 1 });
	expect(positionOf(text, 'a', 'b')).toEqual({ line: 6, column: 2 });
	expect(positionOf(text, 'a.b', 'deep')).toEqual({ line: 7, column: 1 });
	expect(positionOf(text, 'list')).toEqual({ line: 9, column: 3 });
	expect(positionOf('a.k = 1', 'a', 'k')).toEqual({ line: 1, column: 1 });
});

test('does not look inside multi-line strings', () => {
	const text = '[a]\ns = """\nk = 1\n[b]\n"""\nk = 2\n';
	expect(positionOf(text, 'a', 'k')).toEqual({ line: 6, column: 1 });
	expect(positionOf(text, 'b')).toEqual({ line: 1, column: 1 });
});

test('names the section when the key is in an inline table', () => {
	expect(positionOf('\na = { k = 1 }', 'a', 'k')).toEqual({ line: 2, column: 1 });
});
