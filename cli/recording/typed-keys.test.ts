import { expect, test } from 'vitest';
import { TypedKeys } from './typed-keys.ts';

const keysOf = (...pieces: readonly string[]) => {
	const keys = new TypedKeys();
	return pieces.flatMap((piece) => keys.of(piece)).join('');
};

test.each([
	['what it is', '\u001b[?64;1;2;6;9;15;18;21;22c'],
	['where its cursor is', '\u001b[24;80R'],
	['its colours', '\u001b]11;rgb:1e1e/-q+/ffff\u001b\\'],
	['its colours, ended by a bell', '\u001b]10;rgb:q\u0007'],
	['its name', '\u001bP>|q term = 2.\u001b\\'],
	['a click', '\u001b[<0;20;12M'],
	['a click, as terminals of old have it', '\u001b[M q-'],
	['that it was looked at', '\u001b[I'],
	['an arrow', '\u001b[A'],
	['an arrow of application keys', '\u001bOA'],
	['a key of the kitty protocol', '\u001b[113;5u'],
])('%s is no key of the player', (_, answer) => {
	expect(keysOf(`${answer}.`)).toBe('.');
	// However it is cut in pieces.
	for (let at = 1; at < answer.length; at += 1) expect(keysOf(answer.slice(0, at), answer.slice(at), '.')).toBe('.');
	expect(keysOf(...answer, '.')).toBe('.');
});

test('keys are keys, also behind Escape', () => {
	expect(keysOf(' .+-=q')).toBe(' .+-=q');
	expect(keysOf('\u001b', 'q')).toBe('q');
	expect(keysOf('\u001b\u001bq')).toBe('q');
});

test('whoever presses Ctrl-C is heard, whatever did not end', () => {
	for (const open of ['\u001b', '\u001b[', '\u001b[M', '\u001b]11;', '\u001bP', '\u001bO'])
		expect(keysOf(open, '\u0003')).toBe('\u0003');
	expect(keysOf(`\u001b]${'x'.repeat(5000)}`, 'q').at(-1)).toBe('q');
});
