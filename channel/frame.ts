import { assert } from '../kit/assert.ts';
import { GpuaasError } from '../kit/error.ts';
import { buffersCame } from '../kit/young-garbage.ts';

/**
 * What travels between a client and a process of the mapped user, over the plain bytes of a terminal without a TTY:
 *
 *   type u8 | channel u32 | payload length u32 | payload
 *
 * Integers big-endian. Both ends are strangers to each other: a length above the maximum ends the connection, before
 * anything is allocated for it. `mux.ts` and `copy-*.ts` give types their meaning.
 */
export interface Frame {
	readonly type: number;
	readonly channel: number;
	readonly payload: Uint8Array;
}

export const FRAME_HEADER_BYTES = 9;
/** Large enough that headers cost nothing, small enough that one frame never holds up the others for long. */
export const FRAME_PAYLOAD_BYTES_MAX = 256 * 1024;

export function encodeFrame(type: number, channel: number, payload: Uint8Array = new Uint8Array()): Buffer {
	assert(payload.length <= FRAME_PAYLOAD_BYTES_MAX, 'a frame holds at most 256 KiB');
	const bytes = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.length);
	bytes.writeUInt8(type, 0);
	bytes.writeUInt32BE(channel, 1);
	bytes.writeUInt32BE(payload.length, 5);
	bytes.set(payload, FRAME_HEADER_BYTES);
	return bytes;
}

/** Cuts a stream of chunks into frames. Holds at most one frame that isn't whole. */
export class FrameDecoder {
	#chunks: Uint8Array[] = [];
	#bytes = 0;
	/** Of the frame that is being gathered, header included. */
	#needed = FRAME_HEADER_BYTES;

	/** Whole frames, in order. Payloads may be views of the chunk. Throws CHANNEL_PROTOCOL. */
	*push(chunk: Uint8Array): Generator<Frame> {
		buffersCame(chunk.length);
		this.#chunks.push(chunk);
		this.#bytes += chunk.length;
		while (this.#bytes >= this.#needed) {
			const bytes = this.#gathered();
			const length = bytes.readUInt32BE(5);
			if (length > FRAME_PAYLOAD_BYTES_MAX) throw protocolError(`a frame of ${length} bytes was announced`);
			const end = FRAME_HEADER_BYTES + length;
			if (bytes.length < end) {
				this.#needed = end;
				return;
			}
			this.#needed = FRAME_HEADER_BYTES;
			const rest = bytes.subarray(end);
			this.#chunks = rest.length === 0 ? [] : [rest];
			this.#bytes = rest.length;
			yield {
				type: bytes.readUInt8(0),
				channel: bytes.readUInt32BE(1),
				payload: bytes.subarray(FRAME_HEADER_BYTES, end),
			};
		}
	}

	/** Whether the stream may end here. */
	get isEmpty(): boolean {
		return this.#bytes === 0;
	}

	#gathered(): Buffer {
		const [first] = this.#chunks;
		if (this.#chunks.length === 1 && first !== undefined)
			return Buffer.from(first.buffer, first.byteOffset, first.byteLength);
		const bytes = Buffer.concat(this.#chunks);
		this.#chunks = [bytes];
		return bytes;
	}
}

/** The other side doesn't speak as agreed: another version, or somebody who tries something. */
export function protocolError(what: string): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'CHANNEL_PROTOCOL',
		message: `the other side broke the protocol (${what}); the connection was ended. Compare the versions of command and agent`,
	});
}
