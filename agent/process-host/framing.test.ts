import { expect, test } from 'vitest';
import { encodeHead, FrameSplitter, HEAD_BYTES } from './framing.ts';

/** `bytes` of payload that say where they are. */
function frame(kind: number, bytes: number): Buffer {
	const payload = Buffer.from(Uint8Array.from({ length: bytes }, (_, at) => at * 7 + (at >> 8)));
	return Buffer.concat([encodeHead(kind, bytes), payload]);
}

const FRAMES = [0, 1, 4, 65_536, 3, 65_550, 0].map((bytes, index) => frame(index + 1, bytes));
const WIRE = Buffer.concat(FRAMES);

test.each([1, 3, 5, 7, 65_536, 65_541, WIRE.length])('frames come out as they went in, %d bytes at a time', (size) => {
	const splitter = new FrameSplitter(1 << 20);
	const seen: Buffer[] = [];
	for (let at = 0; at < WIRE.length; at += size)
		for (const { kind, payload } of splitter.push(WIRE.subarray(at, at + size)))
			seen.push(Buffer.concat([encodeHead(kind, payload.length), payload]));
	expect(seen.map((one) => one.toString('hex'))).toEqual(FRAMES.map((one) => one.toString('hex')));
});

test('a frame that is torn is copied alone: what follows it in the same chunk is not', () => {
	const splitter = new FrameSplitter(1 << 20);
	const torn = frame(1, 100);
	const whole = frame(2, 1000);
	expect([...splitter.push(torn.subarray(0, 50))]).toEqual([]);
	const chunk = Buffer.concat([torn.subarray(50), whole]);
	const [, second] = [...splitter.push(chunk)];
	expect(second?.payload.buffer).toBe(chunk.buffer);
	expect(second?.payload.byteOffset).toBe(chunk.byteOffset + 50 + HEAD_BYTES + HEAD_BYTES);
});
