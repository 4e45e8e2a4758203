/**
 * The wire between the agent and the pty host: frames of ../process-host/framing.ts, versions of its greeting.ts.
 *
 *   kind 1  one JSON message
 *   kind 2  data:   u32be channel | u8 stream (1 stdin, 2 stdout, 3 stderr) | u8 end (0, 1) | u64be offset | bytes
 *   kind 3  ack:    u32be channel | u8 stream | u64be offset
 *   kind 4  screen: u32be channel | u16be columns | u16be rows | u64be offset | bytes
 *
 *   client -> host  {id, method, params}   hello open list attach end forget allowDevices ping retire shutdown
 *                   {method, params}       detach resize screen signal (no answer)
 *   host -> client  {id, ok} | {id, error} | {outcome: {channel, ...ChannelOutcome}}
 *
 * `channel` is a number of the client's choice, named in `attach`, good for the connection.
 */
import {
	decodeJson,
	encodeHead,
	FrameSplitter,
	HEAD_BYTES,
	KIND_JSON,
	ProtocolError,
	type RawFrame,
} from '../process-host/framing.ts';
import { frameBytesMax } from './limits.ts';
import type { ChannelSize } from './pty-host.ts';

const KIND_DATA = 2;
const KIND_ACK = 3;
const KIND_SCREEN = 4;
const DATA_HEAD_BYTES = 14;
const ACK_BYTES = 13;
const SCREEN_HEAD_BYTES = 16;

const STREAMS = ['stdin', 'stdout', 'stderr'] as const;
export type StreamName = (typeof STREAMS)[number];

export type Frame =
	| { readonly kind: 'json'; readonly message: Record<string, unknown> }
	| {
			readonly kind: 'data';
			readonly channel: number;
			readonly stream: StreamName;
			readonly end: boolean;
			readonly offset: number;
			readonly bytes: Buffer;
	  }
	| { readonly kind: 'ack'; readonly channel: number; readonly stream: StreamName; readonly offset: number }
	| {
			readonly kind: 'screen';
			readonly channel: number;
			readonly size: ChannelSize;
			readonly offset: number;
			readonly bytes: Buffer;
	  };

/** The bytes follow on the socket, uncopied. */
export function encodeDataHead(
	channel: number,
	stream: StreamName,
	end: boolean,
	offset: number,
	length: number,
): Buffer {
	const head = encodeHead(KIND_DATA, DATA_HEAD_BYTES + length, DATA_HEAD_BYTES);
	head.writeUInt32BE(channel, HEAD_BYTES);
	head.writeUInt8(STREAMS.indexOf(stream) + 1, HEAD_BYTES + 4);
	head.writeUInt8(end ? 1 : 0, HEAD_BYTES + 5);
	head.writeBigUInt64BE(BigInt(offset), HEAD_BYTES + 6);
	return head;
}

export function encodeAck(channel: number, stream: StreamName, offset: number): Buffer {
	const frame = encodeHead(KIND_ACK, ACK_BYTES, ACK_BYTES);
	frame.writeUInt32BE(channel, HEAD_BYTES);
	frame.writeUInt8(STREAMS.indexOf(stream) + 1, HEAD_BYTES + 4);
	frame.writeBigUInt64BE(BigInt(offset), HEAD_BYTES + 5);
	return frame;
}

export function encodeScreenHead(channel: number, size: ChannelSize, offset: number, length: number): Buffer {
	const head = encodeHead(KIND_SCREEN, SCREEN_HEAD_BYTES + length, SCREEN_HEAD_BYTES);
	head.writeUInt32BE(channel, HEAD_BYTES);
	head.writeUInt16BE(size.columns, HEAD_BYTES + 4);
	head.writeUInt16BE(size.rows, HEAD_BYTES + 6);
	head.writeBigUInt64BE(BigInt(offset), HEAD_BYTES + 8);
	return head;
}

function streamOf(number: number): StreamName {
	const stream = STREAMS[number - 1];
	if (stream === undefined) throw new ProtocolError(`there is no stream ${number}`);
	return stream;
}

function offsetOf(payload: Buffer, at: number): number {
	const offset = Number(payload.readBigUInt64BE(at));
	if (!Number.isSafeInteger(offset)) throw new ProtocolError('an offset is out of range');
	return offset;
}

/** Throws `ProtocolError`. */
export function decodeFrame({ kind, payload }: RawFrame): Frame {
	if (kind === KIND_JSON) return { kind: 'json', message: decodeJson(payload) };
	if (kind === KIND_DATA && payload.length >= DATA_HEAD_BYTES)
		return {
			kind: 'data',
			channel: payload.readUInt32BE(0),
			stream: streamOf(payload.readUInt8(4)),
			end: payload.readUInt8(5) === 1,
			offset: offsetOf(payload, 6),
			bytes: payload.subarray(DATA_HEAD_BYTES),
		};
	if (kind === KIND_ACK && payload.length === ACK_BYTES)
		return {
			kind: 'ack',
			channel: payload.readUInt32BE(0),
			stream: streamOf(payload.readUInt8(4)),
			offset: offsetOf(payload, 5),
		};
	if (kind === KIND_SCREEN && payload.length >= SCREEN_HEAD_BYTES)
		return {
			kind: 'screen',
			channel: payload.readUInt32BE(0),
			size: { columns: payload.readUInt16BE(4), rows: payload.readUInt16BE(6) },
			offset: offsetOf(payload, 8),
			bytes: payload.subarray(SCREEN_HEAD_BYTES),
		};
	throw new ProtocolError(`a frame of unknown kind ${kind} or of ${payload.length} bytes`);
}

/** Throws `ProtocolError`, after which it is spent. */
export class FrameDecoder {
	readonly #splitter = new FrameSplitter(frameBytesMax);

	*push(chunk: Buffer): Generator<Frame, void, void> {
		for (const frame of this.#splitter.push(chunk)) yield decodeFrame(frame);
	}
}
