import { deflateRawSync, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Chunk, decodeChunk, encodeChunk } from './chunk.ts';

function chunk(subjects: number, minutes: number, value: (index: number) => number): Chunk {
	const series = Array.from({ length: subjects }, (_, subject) =>
		[1, 2, 7].map((metric) => ({ subject: subject === 0 ? '' : `gpu/GPU-${subject}`, metric })),
	).flat();
	const values = Float32Array.from({ length: series.length * 2 * minutes }, (_, index) => value(index));
	return { fromMs: 600_000, minutes, series, values, custody: 'tenant', simulated: true };
}

describe('a chunk', () => {
	test('gives back what it was made of, absent values too', () => {
		const finite = fc.oneof(fc.float({ noDefaultInfinity: true }), fc.constant(Number.NaN));
		fc.assert(
			fc.property(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 1, max: 10 }), fc.array(finite), (n, m, floats) => {
				const made = chunk(n, m, (index) => floats[index] ?? Number.NaN);
				expect(decodeChunk(600_000, encodeChunk(made))).toEqual(made);
			}),
		);
	});

	test('any flipped or missing byte is found, and nothing is invented', () => {
		const plain = inflateRawSync(encodeChunk(chunk(2, 10, (index) => index / 3)));
		for (let index = 0; index < plain.length; index += 1) {
			const flipped = Buffer.from(plain);
			flipped[index] = (flipped[index] ?? 0) ^ 0x10;
			expect(decodeChunk(0, deflateRawSync(flipped))).toBeUndefined();
		}
		const blob = encodeChunk(chunk(2, 10, (index) => index));
		for (let length = 0; length < blob.length; length += 1)
			expect(decodeChunk(0, blob.subarray(0, length))).toBeUndefined();
		expect(decodeChunk(0, deflateRawSync(Buffer.alloc(8 * 1024 * 1024)))).toBeUndefined();
	});

	test('steady values cost little: 8 GPUs, 10 metrics, 10 minutes', () => {
		const series = Array.from({ length: 8 }, (_, gpu) =>
			Array.from({ length: 10 }, (_, metric) => ({ subject: `gpu/${gpu}`, metric })),
		).flat();
		const steady = Float32Array.from({ length: 1600 }, (_, index) => 40 + Math.round(3 * Math.sin(index)));
		const bytes = encodeChunk({ minutes: 10, series, values: steady, custody: 'platform', simulated: false }).length;
		expect(bytes / 1600).toBeLessThan(2);
	});
});
