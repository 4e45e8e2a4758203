import { Writable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { paint, write } from './io.ts';
import { testIo } from './test-io.ts';

const terminal = { stdout: true };

test('colours are for a terminal alone', () => {
	expect(paint(testIo({}, '', terminal), 'red', 'no')).toBe('\u001b[31mno\u001b[0m');
	expect(paint(testIo(), 'red', 'no')).toBe('no');
	expect(paint(testIo({}, '', { stderr: true }), 'red', 'no'), 'standard output goes to a file').toBe('no');
});

test('NO_COLOR turns them off, unless it is empty (no-color.org)', () => {
	expect(paint(testIo({ NO_COLOR: '1' }, '', terminal), 'red', 'no')).toBe('no');
	expect(paint(testIo({ NO_COLOR: '' }, '', terminal), 'red', 'no')).toContain('\u001b[31m');
});

/** A stream whose every write fails as the kernel makes it fail. */
function failing(code: string, isTTY: boolean): Writable & { readonly isTTY: boolean } {
	const stream = new Writable({
		write: (_chunk, _encoding, done) => done(Object.assign(new Error(`write ${code}`), { code })),
	});
	stream.on('error', () => {});
	return Object.assign(stream, { isTTY });
}

describe('a write', () => {
	test.each([
		['EPIPE', false],
		['EPIPE', true],
		['EIO', true],
	])('whose reader went away (%s, on a terminal: %s) is no failure', async (code, isTTY) => {
		await expect(write(failing(code, isTTY), 'text')).resolves.toBeUndefined();
	});

	test.each([
		// A file on a broken disk: what was asked for isn't there.
		['EIO', false],
		['ENOSPC', false],
		['ENOSPC', true],
	])('that failed (%s, on a terminal: %s) is one', async (code, isTTY) => {
		await expect(write(failing(code, isTTY), 'text')).rejects.toMatchObject({ code });
	});
});
