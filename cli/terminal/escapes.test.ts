import { describe, expect, test } from 'vitest';
import { EscapeFilter } from './escapes.ts';

function push(filter: EscapeFilter, text: string) {
	const { send, escapes } = filter.push(Buffer.from(text));
	return { send: Buffer.from(send).toString(), escapes };
}

describe('escape sequences', () => {
	test('begin at the start and after a line break only', () => {
		expect(push(new EscapeFilter(), '~.')).toEqual({ send: '', escapes: ['end'] });
		expect(push(new EscapeFilter(), 'ls\r~d')).toEqual({ send: 'ls\r', escapes: ['detach'] });
		expect(push(new EscapeFilter(), 'cd ~.\r')).toEqual({ send: 'cd ~.\r', escapes: [] });
	});

	test('may be torn', () => {
		const filter = new EscapeFilter();
		expect(push(filter, '\r~')).toEqual({ send: '\r', escapes: [] });
		expect(push(filter, '?')).toEqual({ send: '', escapes: ['help'] });
		expect(push(filter, 'x')).toEqual({ send: 'x', escapes: [] });
	});

	test('a tilde before anything else is a tilde, and two are one', () => {
		expect(push(new EscapeFilter(), '~x').send).toBe('~x');
		expect(push(new EscapeFilter(), '~~.').send).toBe('~.');
	});

	test('nothing after the end is sent; bytes that are no text pass', () => {
		expect(push(new EscapeFilter(), '~.rm').send).toBe('');
		expect([...new EscapeFilter().push(Uint8Array.of(0xff, 0xfe, 0)).send]).toEqual([0xff, 0xfe, 0]);
	});
});
