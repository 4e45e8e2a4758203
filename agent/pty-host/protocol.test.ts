import { expect, test } from 'vitest';
import { encodeJson } from '../process-host/framing.ts';
import { frameBytesMax } from './limits.ts';
import { encodeAck, encodeDataHead, encodeScreenHead, type Frame, FrameDecoder } from './protocol.ts';

/**
 * The wire of versions 1 and 2, byte for byte: an agent and a host of another release run beside each other, and speak it.
 * What has another layout needs a version of its own (../process-host/greeting.ts).
 */
const WIRE: readonly (readonly [string, string, Frame])[] = [
	[
		encodeJson({ id: 1, method: 'hello', params: { version: 1 } }, frameBytesMax).toString('hex'),
		`0000003101${Buffer.from('{"id":1,"method":"hello","params":{"version":1}}').toString('hex')}`,
		{ kind: 'json', message: { id: 1, method: 'hello', params: { version: 1 } } },
	],
	[
		encodeDataHead(7, 'stdin', true, 258, 0).toString('hex'),
		'0000000f020000000701010000000000000102',
		{ kind: 'data', channel: 7, stream: 'stdin', end: true, offset: 258, bytes: Buffer.alloc(0) },
	],
	[
		`${encodeDataHead(0x0102_0304, 'stderr', false, 2 ** 40, 2).toString('hex')}abcd`,
		'00000011020102030403000000010000000000abcd',
		{
			kind: 'data',
			channel: 0x0102_0304,
			stream: 'stderr',
			end: false,
			offset: 2 ** 40,
			bytes: Buffer.from('abcd', 'hex'),
		},
	],
	[
		encodeAck(9, 'stdout', 65_536).toString('hex'),
		'0000000e0300000009020000000000010000',
		{ kind: 'ack', channel: 9, stream: 'stdout', offset: 65_536 },
	],
	[
		`${encodeScreenHead(9, { columns: 80, rows: 24 }, 3, 1).toString('hex')}ff`,
		'000000120400000009005000180000000000000003ff',
		{ kind: 'screen', channel: 9, size: { columns: 80, rows: 24 }, offset: 3, bytes: Buffer.from([0xff]) },
	],
];

test.each(WIRE)('the wire is that of the release before: %s', (encoded, wire, frame) => {
	expect(encoded).toBe(wire);
	expect([...new FrameDecoder().push(Buffer.from(wire, 'hex'))]).toEqual([frame]);
});
