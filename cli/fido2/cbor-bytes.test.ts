import { describe, expect, test } from 'vitest';
import { cborBytes } from './cbor-bytes.ts';

const hex = (text: string) => Buffer.from(text, 'hex');

describe('a CBOR byte string', () => {
	test('gives what is inside, by each form of its length', () => {
		expect(cborBytes(hex('4401020304'))).toEqual(hex('01020304'));
		const [long, longer] = [Buffer.alloc(37, 7), Buffer.alloc(300, 9)];
		expect(cborBytes(Buffer.concat([hex('5825'), long]))).toEqual(long);
		expect(cborBytes(Buffer.concat([hex('59012c'), longer]))).toEqual(longer);
	});

	test('is nothing when it is cut, has more behind it, has no fixed length, or is something else', () => {
		for (const bad of ['', '440102', '44010203040506', '58', '5901', '5f4101ff', '6401020304', '5a00000001ff'])
			expect(cborBytes(hex(bad)), bad).toBeUndefined();
	});
});
