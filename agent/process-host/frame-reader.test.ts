import { expect, test } from 'vitest';
import { FrameReader, SLAB_BYTES } from './frame-reader.ts';
import { encodeHead, ProtocolError, type RawFrame } from './framing.ts';

/** `bytes` of payload that say where they are. */
function frame(kind: number, bytes: number): Buffer {
	const payload = Buffer.from(Uint8Array.from({ length: bytes }, (_, at) => at * 7 + (at >> 8)));
	return Buffer.concat([encodeHead(kind, bytes), payload]);
}

/** As a socket does it: as much as fits into the room. */
function* read(reader: FrameReader, wire: Buffer, sizeMax: number): Generator<RawFrame> {
	for (let at = 0; at < wire.length; ) {
		const room = reader.room();
		const bytes = wire.copy(room, 0, at, Math.min(wire.length, at + sizeMax));
		expect(bytes).toBeGreaterThan(0);
		at += bytes;
		yield* reader.took(bytes);
	}
}

const SMALL = [0, 1, 4, 5000, 3, 0].map((bytes, index) => frame(index + 1, bytes));
const LARGE = [0, 65_536, 3, 65_550, 16_383, 16_384, 900_000, 0, 2 * SLAB_BYTES].map((bytes, index) =>
	frame(index + 1, bytes),
);

test.each([
	[1, SMALL],
	[3, SMALL],
	[5, SMALL],
	[4096, LARGE],
	[65_536, LARGE],
	[65_541, LARGE],
	[262_144, LARGE],
	[4_000_000, LARGE],
])('frames come out as they went in, %d bytes at a time, and stay so', (size, frames) => {
	const reader = new FrameReader(2 * SLAB_BYTES + 1);
	// Kept past all later reads.
	const seen = [...read(reader, Buffer.concat(frames), size)];
	expect(seen.map(({ kind }) => kind)).toEqual(frames.map((_, index) => index + 1));
	for (const [index, { payload }] of seen.entries())
		expect(payload.equals(frames[index]?.subarray(5) ?? Buffer.alloc(0)), `frame ${index}`).toBe(true);
});

test('a large frame is a view of what was read into, in however many reads; a small one holds nothing of it', () => {
	const reader = new FrameReader(1 << 20);
	const slab = reader.room().buffer;
	const wire = Buffer.concat([frame(1, 65_536), frame(2, 100), frame(3, 65_536)]);
	const [first, small, second] = [...read(reader, wire, 10_000)];
	expect(first?.payload.buffer).toBe(slab);
	expect(second?.payload.buffer).toBe(slab);
	expect(small?.payload.buffer).not.toBe(slab);
});

test('whoever announces a large frame gets no memory for it before it comes, and room for a read always', () => {
	const reader = new FrameReader(4 << 20);
	expect([...read(reader, encodeHead(1, (4 << 20) - 1), 5)]).toEqual([]);
	const piece = Buffer.alloc(4096);
	for (let bytes = 5; bytes < 1 << 20; bytes += piece.length) {
		expect([...read(reader, piece, piece.length)]).toEqual([]);
		expect(reader.room().buffer.byteLength).toBeLessThanOrEqual(Math.max(SLAB_BYTES, 4 * bytes + SLAB_BYTES));
	}
});

test.each([0, 1025])('a frame of %d bytes is out of bounds', (length) => {
	const head = Buffer.alloc(5);
	head.writeUInt32BE(length, 0);
	expect(() => [...read(new FrameReader(1024), head, 5)]).toThrow(ProtocolError);
});
