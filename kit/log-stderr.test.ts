import { expect, test } from 'vitest';
import { createLogger, StandardError } from './log.ts';

test('a full disk loses lines, counts them, and ends nothing', () => {
	const written: string[] = [];
	let isFull = false;
	const destination = new StandardError((bytes, offset) => {
		if (isFull) throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
		written.push(Buffer.from(bytes.subarray(offset)).toString());
		return bytes.length - offset;
	});
	const log = createLogger({ name: 'test', destination });
	log.info('one');
	isFull = true;
	log.info('two');
	log.error('three', { error: new Error('x') });
	isFull = false;
	log.info('four');
	log.info('five');
	expect(written.map((line) => JSON.parse(line).message)).toEqual([
		'one',
		'four',
		'2 lines before this one were lost: they could not be written',
		'five',
	]);
});

test('a slow reader gets whole lines, piece by piece', () => {
	let text = '';
	let calls = 0;
	const destination = new StandardError((bytes, offset) => {
		calls += 1;
		if (calls % 2 === 0) throw Object.assign(new Error('again'), { code: 'EAGAIN' });
		text += Buffer.from(bytes.subarray(offset, offset + 7)).toString();
		return Math.min(7, bytes.length - offset);
	});
	destination.write('{"message":"a line that is longer than seven bytes"}\n');
	expect(text).toBe('{"message":"a line that is longer than seven bytes"}\n');
});
