import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ProtocolError } from './framing.ts';
import { frameBytesMax } from './limits.ts';
import { encodeJson, encodeOutputHead, type Frame, FrameDecoder } from './protocol.ts';

const message = fc.record({ id: fc.nat(), method: fc.string(), params: fc.dictionary(fc.string(), fc.string()) });
const output = fc.record({
	subscription: fc.nat(0xffff_ffff),
	stream: fc.constantFrom('stdout', 'stderr'),
	offset: fc.maxSafeNat(),
	bytes: fc.uint8Array({ maxLength: 300 }),
});

it('gives back the frames that went in, wherever the stream is cut', () => {
	fc.assert(
		fc.property(
			fc.array(fc.oneof(message, output)),
			fc.infiniteStream(fc.integer({ min: 1, max: 50 })),
			(items, cuts) => {
				const wire = Buffer.concat(
					items.flatMap((item) =>
						'bytes' in item
							? [
									encodeOutputHead(item.subscription, item.stream as 'stdout', item.offset, item.bytes.length),
									item.bytes,
								]
							: [encodeJson(item)],
					),
				);
				const decoder = new FrameDecoder();
				const frames: Frame[] = [];
				for (let at = 0; at < wire.length; ) {
					const length = cuts.next().value;
					frames.push(...decoder.push(wire.subarray(at, at + length)));
					at += length;
				}
				expect(frames).toEqual(
					items.map((item) =>
						'bytes' in item
							? { kind: 'output', ...item, bytes: Buffer.from(item.bytes) }
							: { kind: 'json', message: JSON.parse(JSON.stringify(item)) },
					),
				);
			},
		),
	);
});

it('is byte for byte the wire of the release before: another layout needs a version of its own (greeting.ts)', () => {
	expect(encodeJson({ id: 1 }).toString('hex')).toBe(`0000000901${Buffer.from('{"id":1}').toString('hex')}`);
	const wire = `${encodeOutputHead(0x0102_0304, 'stderr', 258, 2).toString('hex')}abcd`;
	expect(wire).toBe('000000100201020304020000000000000102abcd');
	expect([...new FrameDecoder().push(Buffer.from(wire, 'hex'))]).toEqual([
		{
			kind: 'output',
			subscription: 0x0102_0304,
			stream: 'stderr',
			offset: 258,
			bytes: Buffer.from('abcd', 'hex'),
		},
	]);
});

it('never throws anything but a ProtocolError, whatever comes', () => {
	fc.assert(
		fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
			try {
				for (const _frame of new FrameDecoder().push(Buffer.from(bytes)));
			} catch (error) {
				expect(error).toBeInstanceOf(ProtocolError);
			}
		}),
		{ numRuns: 1000 },
	);
});

it.each([
	['no kind', [0, 0, 0, 0, 1]],
	['a length over the bound', [...Buffer.from(new Uint32Array([0]).buffer)].fill(0xff).concat(1)],
	['an unknown kind', [0, 0, 0, 2, 9, 0]],
	['a JSON array', [0, 0, 0, 3, 1, 0x5b, 0x5d]],
	['torn JSON', [0, 0, 0, 2, 1, 0x7b]],
	['a short output frame', [0, 0, 0, 2, 2, 0]],
])('refuses %s', (_name, bytes) => {
	expect(() => [...new FrameDecoder().push(Buffer.from(bytes))]).toThrow(ProtocolError);
});

it('refuses to send what the other side would refuse', () => {
	expect(() => encodeJson({ text: 'x'.repeat(frameBytesMax) })).toThrow(ProtocolError);
});
