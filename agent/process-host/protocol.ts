/**
 * The wire between the agent and the process host: a unix stream socket, version 1.
 *
 *   frame   := u32be length of (kind + payload) | u8 kind | payload       length <= 8 MiB
 *   kind 1  := one JSON message (UTF-8)
 *   kind 2  := output: u32be subscription | u8 stream (1 stdout, 2 stderr) | u64be offset | bytes
 *
 * The client speaks first: {id, method: "hello", params: {version}}; the answer names the host's instance id, which the
 * client compares with the lock file of the 0700 directory. Any other first message, an unknown version, a frame over
 * the bound or one that doesn't parse ends the connection. Then, in any order:
 *
 *   client -> host  {id, method, params}      launch cancel list result forget attach subscribe shutdown
 *                   {method, params}          credit detach (no answer)
 *   host -> client  {id, ok} | {id, error: {code, reason, message}}
 *                   {event: HostEvent}        after `subscribe`
 *                   {gap: {subscription, offset, droppedBytes}} | {end: {subscription, offset}}
 *
 * `attach` names a subscription id of the client's choice. The host sends at most `attachWindowBytes` beyond the credit
 * given back; each record costs its bytes + `recordOverheadBytes`. `end` closes a subscription.
 * Peers are the same unix user (0700 directory, 0600 socket); frames are still decoded as if they were hostile.
 */
import { frameBytesMax } from './limits.ts';

export const protocolVersion = 1;

const KIND_JSON = 1;
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

export class ProtocolError extends Error {
	override readonly name = 'ProtocolError';
}

export function encodeJson(message: object): Buffer {
	const text = JSON.stringify(message);
	const payloadBytes = Buffer.byteLength(text);
	if (payloadBytes + 1 > frameBytesMax) throw new ProtocolError(`a frame of ${payloadBytes} bytes is too big`);
	const frame = Buffer.allocUnsafe(5 + payloadBytes);
	frame.writeUInt32BE(payloadBytes + 1, 0);
	frame.writeUInt8(KIND_JSON, 4);
	frame.write(text, 5, 'utf8');
	return frame;
}

/** The head of an output frame; the bytes follow it on the socket, uncopied. */
export function encodeOutputHead(subscription: number, stream: StreamName, offset: number, length: number): Buffer {
	const head = Buffer.allocUnsafe(5 + OUTPUT_HEADER_BYTES);
	head.writeUInt32BE(1 + OUTPUT_HEADER_BYTES + length, 0);
	head.writeUInt8(KIND_OUTPUT, 4);
	head.writeUInt32BE(subscription, 5);
	head.writeUInt8(streamNumber[stream], 9);
	head.writeBigUInt64BE(BigInt(offset), 10);
	return head;
}

function decodeFrame(kind: number, payload: Buffer): Frame {
	if (kind === KIND_JSON) {
		let message: unknown;
		try {
			message = JSON.parse(payload.toString('utf8'));
		} catch (cause) {
			throw new ProtocolError('a frame is not JSON', { cause });
		}
		if (typeof message !== 'object' || message === null || Array.isArray(message)) {
			throw new ProtocolError('a frame is not a JSON object');
		}
		return { kind: 'json', message: message as Record<string, unknown> };
	}
	if (kind !== KIND_OUTPUT || payload.length < OUTPUT_HEADER_BYTES) {
		throw new ProtocolError(`a frame of unknown kind ${kind} or of ${payload.length} bytes`);
	}
	const stream = streamName(payload.readUInt8(4));
	const offset = Number(payload.readBigUInt64BE(5));
	if (stream === undefined || !Number.isSafeInteger(offset)) throw new ProtocolError('a malformed output frame');
	const bytes = payload.subarray(OUTPUT_HEADER_BYTES);
	return { kind: 'output', subscription: payload.readUInt32BE(0), stream, offset, bytes };
}

/** Splits a byte stream into frames; holds at most one incomplete frame. Throws `ProtocolError`, after which it is spent. */
export class FrameDecoder {
	#chunks: Buffer[] = [];
	#bufferedBytes = 0;

	*push(chunk: Buffer): Generator<Frame, void, void> {
		this.#chunks.push(chunk);
		this.#bufferedBytes += chunk.length;
		while (this.#bufferedBytes >= 5) {
			const head = this.#peek(5);
			const length = head.readUInt32BE(0);
			if (length < 1 || length > frameBytesMax) throw new ProtocolError(`a frame of ${length} bytes is out of bounds`);
			if (this.#bufferedBytes < 4 + length) return;
			const kind = head.readUInt8(4);
			const frame = this.#take(4 + length);
			yield decodeFrame(kind, frame.subarray(5));
		}
	}

	#peek(length: number): Buffer {
		const first = this.#chunks[0];
		if (first !== undefined && first.length >= length) return first;
		this.#join();
		return this.#chunks[0] as Buffer;
	}

	#take(length: number): Buffer {
		const first = this.#chunks[0];
		if (first === undefined || first.length < length) this.#join();
		const joined = this.#chunks[0] as Buffer;
		this.#bufferedBytes -= length;
		if (joined.length === length) this.#chunks.shift();
		else this.#chunks[0] = joined.subarray(length);
		return joined.subarray(0, length);
	}

	/** Joined only when a whole frame is there (or its head is torn), so that a large frame is copied once. */
	#join(): void {
		this.#chunks = [Buffer.concat(this.#chunks)];
	}
}
