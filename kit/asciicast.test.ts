import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
	CastText,
	decodeCastEvent,
	decodeCastHeader,
	encodeCastEvent,
	encodeCastHeader,
	sizeOfResize,
} from './asciicast.ts';

test('events and headers come out as they went in', () => {
	const header = { width: 80, height: 24, timestamp: 1_800_000_000, title: 'bash', env: { TERM: 'xterm' } };
	expect(decodeCastHeader(encodeCastHeader(header))).toEqual(header);
	fc.assert(
		fc.property(
			fc.nat(1e9),
			fc.constantFrom('o', 'i', 'm', 'r'),
			fc.string({ unit: 'grapheme' }),
			(atMs, code, text) => {
				const line = encodeCastEvent({ atMs, code, text });
				expect(line.indexOf('\n')).toBe(line.length - 1);
				expect(decodeCastEvent(line)).toMatchObject({ code, text, atMs: expect.closeTo(atMs, 0) });
			},
		),
	);
});

test('no line whatsoever does more than be refused', () => {
	const anything = fc.oneof(
		fc.string(),
		fc.json(),
		fc
			.array(fc.anything())
			.map((value) => JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? 0 : each)) ?? ''),
	);
	fc.assert(
		fc.property(anything, (line) => {
			for (const decoded of [decodeCastEvent(line), decodeCastHeader(line)])
				expect(decoded === undefined || typeof decoded === 'object').toBe(true);
		}),
	);
	for (const bad of [
		'',
		'[]',
		'[1,"o"]',
		'["1","o","x"]',
		'[-1,"o","x"]',
		'[1,"z","x"]',
		'[1,"o",2]',
		'[1e999,"o","x"]',
		'{}',
	])
		expect(decodeCastEvent(bad), bad).toBeUndefined();
	for (const bad of [
		'{"version":1,"width":80,"height":24}',
		'{"version":2,"width":0,"height":24}',
		'{"version":2}',
		'[]',
		'null',
	])
		expect(decodeCastHeader(bad), bad).toBeUndefined();
	expect([sizeOfResize('80x24'), sizeOfResize('80x'), sizeOfResize('1e3x4')]).toEqual([
		{ columns: 80, rows: 24 },
		undefined,
		undefined,
	]);
});

test('a character that is cut anywhere comes whole, and what is none is replaced and counted', () => {
	fc.assert(
		fc.property(fc.string({ unit: 'grapheme' }), fc.integer({ min: 1, max: 5 }), (text, step) => {
			const bytes = Buffer.from(text.toWellFormed());
			const cast = new CastText();
			let seen = '';
			for (let at = 0; at < bytes.length; at += step) seen += cast.push(bytes.subarray(at, at + step));
			expect(seen + cast.end()).toBe(text.toWellFormed());
		}),
	);
	const cast = new CastText();
	expect(cast.push(Buffer.from([0x61, 0xff, 0xc3])) + cast.end()).toBe('a\ufffd\ufffd');
	expect(cast.replaced).toBe(2);
});
