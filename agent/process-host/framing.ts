/**
 * How bytes of a unix stream socket become frames, for every host that outlives the agent:
 *
 *   frame := u32be length of (kind + payload) | u8 kind | payload
 *
 * Peers are the same unix user (0700 directory, 0600 socket); frames are still decoded as if they were hostile.
 */
export const HEAD_BYTES = 5;
/** Payload of this kind is one JSON message (UTF-8), in every protocol. */
export const KIND_JSON = 1;

export interface RawFrame {
	readonly kind: number;
	readonly payload: Buffer;
}

export class ProtocolError extends Error {
	override readonly name = 'ProtocolError';
}

/** The head of a frame; its payload follows on the socket, uncopied. `more` bytes of the payload may be filled in. */
export function encodeHead(kind: number, payloadBytes: number, more = 0): Buffer {
	const head = Buffer.allocUnsafe(HEAD_BYTES + more);
	head.writeUInt32BE(payloadBytes + 1, 0);
	head.writeUInt8(kind, 4);
	return head;
}

export function encodeJson(message: object, frameBytesMax: number): Buffer {
	const text = JSON.stringify(message);
	const payloadBytes = Buffer.byteLength(text);
	if (payloadBytes + 1 > frameBytesMax) throw new ProtocolError(`a frame of ${payloadBytes} bytes is too big`);
	const frame = encodeHead(KIND_JSON, payloadBytes, payloadBytes);
	frame.write(text, HEAD_BYTES, 'utf8');
	return frame;
}

export function decodeJson(payload: Buffer): Record<string, unknown> {
	let message: unknown;
	try {
		message = JSON.parse(payload.toString('utf8'));
	} catch (cause) {
		throw new ProtocolError('a frame is not JSON', { cause });
	}
	if (typeof message !== 'object' || message === null || Array.isArray(message)) {
		throw new ProtocolError('a frame is not a JSON object');
	}
	return message as Record<string, unknown>;
}

/** Splits a byte stream into frames; holds at most one incomplete frame. Throws `ProtocolError`, after which it is spent. */
export class FrameSplitter {
	readonly #frameBytesMax: number;
	#chunks: Buffer[] = [];
	#bufferedBytes = 0;

	constructor(frameBytesMax: number) {
		this.#frameBytesMax = frameBytesMax;
	}

	*push(chunk: Buffer): Generator<RawFrame, void, void> {
		this.#chunks.push(chunk);
		this.#bufferedBytes += chunk.length;
		while (this.#bufferedBytes >= HEAD_BYTES) {
			const head = this.#peek(HEAD_BYTES);
			const length = head.readUInt32BE(0);
			if (length < 1 || length > this.#frameBytesMax)
				throw new ProtocolError(`a frame of ${length} bytes is out of bounds`);
			if (this.#bufferedBytes < 4 + length) return;
			const kind = head.readUInt8(4);
			yield { kind, payload: this.#take(4 + length).subarray(HEAD_BYTES) };
		}
	}

	#peek(length: number): Buffer {
		const first = this.#chunks[0];
		if (first !== undefined && first.length >= length) return first;
		// Torn: its pieces are put together, and only they.
		const head = this.#take(length);
		this.#chunks.unshift(head);
		this.#bufferedBytes += length;
		return head;
	}

	/** A view where it is in one piece; else each of its bytes is copied once, and none of the next frame's. */
	#take(length: number): Buffer {
		this.#bufferedBytes -= length;
		const first = this.#chunks[0] as Buffer;
		if (first.length > length) {
			this.#chunks[0] = first.subarray(length);
			return first.subarray(0, length);
		}
		if (first.length === length) return this.#chunks.shift() as Buffer;
		const whole = Buffer.allocUnsafe(length);
		let at = 0;
		let count = 0;
		for (const chunk of this.#chunks) {
			const bytes = Math.min(chunk.length, length - at);
			chunk.copy(whole, at, 0, bytes);
			at += bytes;
			if (bytes < chunk.length) this.#chunks[count] = chunk.subarray(bytes);
			else count += 1;
			if (at === length) break;
		}
		this.#chunks = this.#chunks.slice(count);
		return whole;
	}
}
