import type { ServerHttp2Stream } from 'node:http2';
import type { Message } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import type { Serialization } from '@connectrpc/connect/protocol';
import { buffersCame } from '../../kit/young-garbage.ts';
import { COMPRESSED_FLAG, END_FLAG, type Envelope, EnvelopeDecoder } from '../../proto/envelope.ts';

/**
 * The messages of a request as they come, read by one. It stops reading from the stream while `AHEAD_BYTES_MAX` wait, so
 * that HTTP/2's window holds the caller back; no message is decoded before it is asked for.
 */
const AHEAD_BYTES_MAX = 256 * 1024;
/** What an envelope takes here beside its bytes: many empty ones must not be free. */
const ENVELOPE_BYTES = 256;

export class IncomingMessages implements AsyncIterableIterator<Message> {
	readonly #stream: ServerHttp2Stream;
	readonly #serialization: Serialization<Message>;
	readonly #decoder: EnvelopeDecoder;
	#queue: Envelope[] = [];
	#aheadBytes = 0;
	#isOver = false;
	#failure: unknown;
	#wake: (() => void) | undefined;

	constructor(stream: ServerHttp2Stream, serialization: Serialization<Message>, bytesMax: number) {
		this.#stream = stream;
		this.#serialization = serialization;
		this.#decoder = new EnvelopeDecoder(bytesMax, (bytes) => tooLarge(bytes, bytesMax));
		// Whoever left, or said nothing, while the gate looked at them: neither of the events below comes any more.
		this.#isOver = stream.destroyed || stream.closed || stream.readableEnded;
		stream.on('data', this.#onData);
		stream.once('end', this.#onEnd);
		stream.once('close', this.#onEnd);
	}

	[Symbol.asyncIterator](): this {
		return this;
	}

	async next(): Promise<IteratorResult<Message>> {
		for (;;) {
			const envelope = this.#queue.shift();
			if (envelope !== undefined) return { done: false, value: this.#take(envelope) };
			if (this.#failure !== undefined) throw this.#failure;
			if (this.#isOver) return { done: true, value: undefined };
			await new Promise<void>((resolve) => {
				this.#wake = resolve;
			});
		}
	}

	/** Nobody reads on: what comes is read and dropped, so that the stream can end. */
	async return(): Promise<IteratorResult<Message>> {
		this.#isOver = true;
		this.#queue = [];
		this.#stream.off('data', this.#onData);
		this.#stream.resume();
		this.#wake?.();
		return { done: true, value: undefined };
	}

	async throw(error: unknown): Promise<IteratorResult<Message>> {
		await this.return();
		throw error;
	}

	#take({ flags, data }: Envelope): Message {
		this.#aheadBytes -= data.length + ENVELOPE_BYTES;
		if (this.#aheadBytes <= AHEAD_BYTES_MAX && this.#stream.isPaused()) this.#stream.resume();
		if ((flags & COMPRESSED_FLAG) !== 0)
			throw new ConnectError('received compressed envelope, but do not know how to decompress', Code.Internal);
		return this.#serialization.parse(data);
	}

	readonly #onData = (chunk: Buffer) => {
		buffersCame(chunk.length);
		try {
			for (const envelope of this.#decoder.push(chunk)) {
				// A client's end of stream says nothing that the end doesn't.
				if ((envelope.flags & END_FLAG) !== 0) continue;
				this.#queue.push(envelope);
				this.#aheadBytes += envelope.data.length + ENVELOPE_BYTES;
			}
		} catch (error) {
			this.#fail(error);
		}
		if (this.#aheadBytes > AHEAD_BYTES_MAX) this.#stream.pause();
		this.#wake?.();
	};

	readonly #onEnd = () => {
		if (!this.#isOver && this.#decoder.pendingBytes > 0)
			this.#fail(new ConnectError('protocol error: incomplete envelope', Code.InvalidArgument));
		this.#isOver = true;
		this.#wake?.();
	};

	#fail(error: unknown): void {
		this.#failure ??= error;
		this.#stream.off('data', this.#onData);
		this.#stream.resume();
	}
}

function tooLarge(bytes: number, bytesMax: number): ConnectError {
	const what = `message size ${bytes} is larger than configured readMaxBytes ${bytesMax}`;
	return new ConnectError(what, Code.ResourceExhausted);
}
