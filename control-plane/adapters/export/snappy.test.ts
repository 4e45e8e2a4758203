import { expect, test } from 'vitest';
import { snappyCompress, snappyUncompress } from './snappy.ts';

test('what is compressed comes back, and the block format is the one of the specification', () => {
	// github.com/google/snappy/blob/main/format_description.txt: length as varint, then a literal.
	expect([...snappyCompress(Buffer.from('abc'))]).toEqual([3, 0x08, 0x61, 0x62, 0x63]);
	const bytes = Buffer.from('gpuaas_gpu_temperature_celsius '.repeat(5000));
	const compressed = snappyCompress(bytes);
	expect(compressed.length).toBeLessThan(bytes.length / 10);
	expect(Buffer.from(snappyUncompress(compressed, bytes.length)).equals(bytes)).toBe(true);
	expect(() => snappyUncompress(compressed, 10)).toThrow();
});
