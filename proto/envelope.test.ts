import { describe, expect, it } from 'vitest';
import { EnvelopeDecoder, envelopeHead } from './envelope.ts';

function envelope(flags: number, data: Buffer): Buffer {
	return Buffer.concat([envelopeHead(flags, data.length), data]);
}

const MESSAGES = [0, 1, 5, 70_000].map((bytes, index) => ({ flags: index, data: Buffer.alloc(bytes, index + 1) }));
const WIRE = Buffer.concat(MESSAGES.map(({ flags, data }) => envelope(flags, data)));
const never = () => new Error('none is too large');

describe('envelopes of a stream', () => {
	it.each([1, 3, 7, 16_384, WIRE.length])('come out as they went in, %d bytes at a time', (size) => {
		const decoder = new EnvelopeDecoder(70_000, never);
		const seen = [];
		for (let at = 0; at < WIRE.length; at += size) {
			for (const { flags, data } of decoder.push(WIRE.subarray(at, at + size)))
				seen.push({ flags, data: Buffer.from(data) });
		}
		expect(seen).toEqual(MESSAGES);
		expect(decoder.pendingBytes).toBe(0);
	});

	it('are refused by their head when they are too large, and one that is cut is not whole', () => {
		const decoder = new EnvelopeDecoder(4, (bytes) => new Error(`${bytes} bytes`));
		expect(() => [...decoder.push(envelopeHead(0, 5))]).toThrow('5 bytes');
		const cut = new EnvelopeDecoder(4, never);
		expect([...cut.push(envelope(0, Buffer.alloc(4)).subarray(0, 8))]).toEqual([]);
		expect(cut.pendingBytes).toBe(8);
	});

	it('have room behind their head for what comes before uncopied bytes', () => {
		const head = envelopeHead(0, 3, 2);
		head.write('ab', 5);
		const decoder = new EnvelopeDecoder(5, never);
		expect([...decoder.push(Buffer.concat([head, Buffer.from('xyz')]))][0]?.data.toString()).toBe('abxyz');
	});

	it('cost what was sent, not what was promised, and no object for each chunk that came', () => {
		const decoder = new EnvelopeDecoder(4 << 20, never);
		const byte = Buffer.of(7);
		const [before] = [process.memoryUsage()];
		for (const head of envelopeHead(0, 4 << 20)) expect([...decoder.push(Buffer.of(head))]).toEqual([]);
		// As HTTP/2 frames of one byte would: each chunk is an object of its own.
		for (let sent = 0; sent < 200_000; sent += 1) for (const _ of decoder.push(Buffer.from(byte))) expect.unreachable();
		expect(decoder.pendingBytes).toBe(200_005);
		const after = process.memoryUsage();
		expect(after.external - before.external).toBeLessThan(4 << 20);
	});
});
