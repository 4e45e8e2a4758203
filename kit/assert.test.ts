import { expect, test } from 'vitest';
import { AssertionError, assert, present, unreachable } from './assert.ts';

test('assert throws only when its condition fails', () => {
	expect(() => assert('yes', 'fine')).not.toThrow();
	expect(() => assert(0, 'broken')).toThrow(AssertionError);
});

test('present passes falsy values that are present', () => {
	expect(present(0, 'zero')).toBe(0);
	expect(present('', 'empty')).toBe('');
	expect(() => present(undefined, 'absent')).toThrow('absent');
	expect(() => present(null, 'absent')).toThrow(AssertionError);
});

test('unreachable names the value', () => {
	expect(() => unreachable('left' as never)).toThrow('unreachable value: left');
});

test('await using works as the runtime has it', async () => {
	let closed = false;
	{
		await using _resource = {
			async [Symbol.asyncDispose]() {
				closed = true;
			},
		};
	}
	expect(closed).toBe(true);
});
