import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import { ChannelRequestSchema, ChannelResponseSchema } from './gen/gpuaas/link/v1/channel_pb.ts';
import { Stream, StreamDataSchema } from './gen/gpuaas/terminals/v1/channel_pb.ts';
import {
	AttachTerminalRequestSchema,
	AttachTerminalResponseSchema,
	ObserveTerminalResponseSchema,
	TerminalSchema,
} from './gen/gpuaas/terminals/v1/terminals_pb.ts';
import { hasRuns, runOf } from './stream-data.ts';

const OUTPUTS = [ChannelRequestSchema, AttachTerminalResponseSchema, ObserveTerminalResponseSchema] as const;
const INPUTS = [ChannelResponseSchema, AttachTerminalRequestSchema] as const;

const RUNS = [
	{ stream: Stream.STDOUT, offset: 0n, data: Uint8Array.of(0), end: false },
	{ stream: Stream.STDERR, offset: 2n ** 53n - 1n, data: new Uint8Array(131_072).fill(0xff), end: true },
	{ stream: Stream.UNSPECIFIED, offset: 300n, data: new Uint8Array(127), end: false },
];

describe('the wire format of a run of bytes', () => {
	it.each([...OUTPUTS, ...INPUTS])('says what the general encoder says, in each message that may hold one', (desc) => {
		expect(hasRuns(desc)).toBe(true);
		for (const run of RUNS) {
			const name = 'output' in desc.field ? 'output' : 'input';
			const message = create(desc, { message: { case: name, value: create(StreamDataSchema, run) } } as never);
			const { head, data } = runOf(desc, message) ?? { head: new Uint8Array(), data: new Uint8Array() };
			expect(data).toBe(run.data);
			expect(head.length).toBeLessThan(40);
			const bytes = new Uint8Array(Buffer.concat([head, data]));
			expect(fromBinary(desc, bytes)).toEqual(message);
			expect(bytes.length).toBe(toBinary(desc, message).length);
		}
	});

	it('leaves to the general encoder what is not only a run', () => {
		const value = create(StreamDataSchema, RUNS[0]);
		const named = create(AttachTerminalRequestSchema, { terminalId: 't', message: { case: 'input', value } });
		expect(runOf(AttachTerminalRequestSchema, named)).toBeUndefined();
		const more = create(ChannelRequestSchema, { message: { case: 'output', value } });
		more.$unknown = [{ no: 99, wireType: 0, data: Uint8Array.of(1) }];
		expect(runOf(ChannelRequestSchema, more)).toBeUndefined();
		const empty = create(ChannelRequestSchema, { message: { case: 'output', value: { end: true } } });
		expect(runOf(ChannelRequestSchema, empty)).toBeUndefined();
		const ack = create(ChannelRequestSchema, { message: { case: 'ack', value: { offset: 1n } } });
		expect(runOf(ChannelRequestSchema, ack)).toBeUndefined();
		expect(runOf(ChannelRequestSchema, create(ChannelRequestSchema))).toBeUndefined();
		expect(hasRuns(TerminalSchema)).toBe(false);
	});
});
