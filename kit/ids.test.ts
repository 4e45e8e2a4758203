import fc from 'fast-check';
import { expect, test } from 'vitest';
import { hex, isUuid, systemRng, uuidv7 } from './ids.ts';

test('uuidv7 has its version, its variant and its time', () => {
	fc.assert(
		fc.property(fc.integer({ min: 0, max: 2 ** 48 - 1 }), (nowMs) => {
			const id = uuidv7(nowMs, systemRng);
			expect(isUuid(id)).toBe(true);
			expect(id[14]).toBe('7');
			expect('89ab').toContain(id[19]);
			expect(Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16)).toBe(nowMs);
		}),
	);
});

test('ids sort by time', () => {
	const times = [0, 1, 255, 256, 65_535, 65_536, 2 ** 32 - 1, 2 ** 32, 1_800_000_000_000];
	const ids = times.map((nowMs) => uuidv7(nowMs, systemRng));
	expect([...ids].sort()).toEqual(ids);
});

test('every random bit reaches the id', () => {
	const fill = (byte: number) => uuidv7(0, { ...systemRng, bytes: (length) => new Uint8Array(length).fill(byte) });
	expect(fill(0x00)).toBe('00000000-0000-7000-8000-000000000000');
	expect(fill(0xff)).toBe('00000000-0000-7fff-bfff-ffffffffffff');
});

test('only the one form is a uuid', () => {
	for (const text of [
		'',
		'00000000-0000-7000-8000-00000000000',
		'00000000-0000-7000-8000-00000000000G',
		'00000000-0000-7000-8000-0000000000000',
		'{00000000-0000-7000-8000-000000000000}',
		'00000000-0000-7000-8000-00000000000A',
	]) {
		expect(isUuid(text)).toBe(false);
	}
});

test('hex keeps leading zeros', () => {
	expect(hex(new Uint8Array([0, 1, 15, 16, 255]))).toBe('00010f10ff');
});

test('randomness is of the asked length and not constant', () => {
	expect(systemRng.bytes(32)).toHaveLength(32);
	expect(hex(systemRng.bytes(16))).not.toBe(hex(systemRng.bytes(16)));
	const value = systemRng.float();
	expect(value >= 0 && value < 1).toBe(true);
});
