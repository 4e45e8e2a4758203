/**
 * The wire between the agent and the process host: a unix stream socket; versions are those of greeting.ts.
 *
 *   frame   := u32be length of (kind + payload) | u8 kind | payload       length <= 8 MiB
 *   kind 1  := one JSON message (UTF-8)
 *   kind 2  := output: u32be subscription | u8 stream (1 stdout, 2 stderr) | u64be offset | bytes
 *
 * The client speaks first: {id, method: "hello", params: {version}}; the answer names the host's instance id, which the
 * client compares with the lock file of the 0700 directory. An unknown version is refused, and another may be offered. Any
 * other first message, a frame over the bound or one that doesn't parse ends the connection. Then, in any order:
 *
 *   client -> host  {id, method, params}      launch cancel list result forget attach subscribe allowDevices retire shutdown
 *                   {method, params}          credit detach (no answer)
 *   host -> client  {id, ok} | {id, error: {code, reason, message}}
 *                   {event: HostEvent}        after `subscribe`
 *                   {gap: {subscription, offset, droppedBytes}} | {end: {subscription, offset}}
 *
 * `attach` names a subscription id of the client's choice. The host sends at most `attachWindowBytes` beyond the credit
 * given back; each record costs its bytes + `recordOverheadBytes`. `end` closes a subscription.
 * Peers are the same unix user (0700 directory, 0600 socket); frames are still decoded as if they were hostile.
 */
import {
	decodeJson,
	encodeHead,
	encodeJson as encodeJsonFrame,
	FrameSplitter,
	KIND_JSON,
	ProtocolError,
	type RawFrame,
} from './framing.ts';
import { frameBytesMax } from './limits.ts';

const KIND_OUTPUT = 2;
const OUTPUT_HEADER_BYTES = 13;

export const streamNumber = { stdout: 1, stderr: 2 } as const;
export type StreamName = keyof typeof streamNumber;

export function streamName(number: number): StreamName | undefined {
	return number === 1 ? 'stdout' : number === 2 ? 'stderr' : undefined;
}

export type Frame =
	| { readonly kind: 'json'; readonly message: Record<string, unknown> }
	| {
			readonly kind: 'output';
			readonly subscription: number;
			readonly stream: StreamName;
			readonly offset: number;
			readonly bytes: Buffer;
	  };

export function encodeJson(message: object): Buffer {
	return encodeJsonFrame(message, frameBytesMax);
}

/** The head of an output frame; the bytes follow it on the socket, uncopied. */
export function encodeOutputHead(subscription: number, stream: StreamName, offset: number, length: number): Buffer {
	const head = encodeHead(KIND_OUTPUT, OUTPUT_HEADER_BYTES + length, OUTPUT_HEADER_BYTES);
	head.writeUInt32BE(subscription, 5);
	head.writeUInt8(streamNumber[stream], 9);
	head.writeBigUInt64BE(BigInt(offset), 10);
	return head;
}

function decodeFrame({ kind, payload }: RawFrame): Frame {
	if (kind === KIND_JSON) return { kind: 'json', message: decodeJson(payload) };
	if (kind !== KIND_OUTPUT || payload.length < OUTPUT_HEADER_BYTES) {
		throw new ProtocolError(`a frame of unknown kind ${kind} or of ${payload.length} bytes`);
	}
	const stream = streamName(payload.readUInt8(4));
	const offset = Number(payload.readBigUInt64BE(5));
	if (stream === undefined || !Number.isSafeInteger(offset)) throw new ProtocolError('a malformed output frame');
	const bytes = payload.subarray(OUTPUT_HEADER_BYTES);
	return { kind: 'output', subscription: payload.readUInt32BE(0), stream, offset, bytes };
}

/** Throws `ProtocolError`, after which it is spent. */
export class FrameDecoder {
	readonly #splitter = new FrameSplitter(frameBytesMax);

	*push(chunk: Buffer): Generator<Frame, void, void> {
		for (const frame of this.#splitter.push(chunk)) yield decodeFrame(frame);
	}
}
