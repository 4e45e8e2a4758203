import { type ClientHttp2Session, type ClientHttp2Stream, constants, type IncomingHttpHeaders } from 'node:http2';
import { fromBinary, type Message, toBinary } from '@bufbuild/protobuf';
import { CODE_NUMBER } from '../../kit/error.ts';
import { buffersCame } from '../../kit/young-garbage.ts';
import { COMPRESSED_FLAG, EnvelopeDecoder } from '../../proto/envelope.ts';
import {
	type ChannelRequest,
	ChannelRequestSchema,
	type ChannelResponse,
	ChannelResponseSchema,
} from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { AgentLinkService } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { writeMessage } from '../../proto/write-message.ts';
import type { ClientListener, ClientStream, StreamEnd } from './link-transport.ts';

const HEADERS = {
	':method': 'POST',
	':path': `/${AgentLinkService.typeName}/${AgentLinkService.method.channel.name}`,
	'content-type': 'application/grpc',
	te: 'trailers',
} as const;

/** One `Channel` call on an HTTP/2 stream, as gRPC has it (grpc/grpc doc/PROTOCOL-HTTP2.md), never compressed. */
export class ChannelCall implements ClientStream<ChannelRequest> {
	readonly #stream: ClientHttp2Stream;
	readonly #listener: ClientListener<ChannelResponse>;
	readonly #onOver: () => void;
	readonly #decoder: EnvelopeDecoder;
	#trailers: IncomingHttpHeaders | undefined;
	#failure = 'the connection was lost';
	#isEnded = false;
	#isOver = false;

	/** Throws when the session takes no streams. */
	constructor(
		session: ClientHttp2Session,
		messageBytesMax: number,
		listener: ClientListener<ChannelResponse>,
		onOver: () => void,
	) {
		this.#listener = listener;
		this.#onOver = onOver;
		this.#decoder = new EnvelopeDecoder(messageBytesMax, tooLarge);
		this.#stream = session.request(HEADERS);
		this.#stream
			.on('response', (headers) => this.#onResponse(headers))
			.on('data', (chunk: Buffer) => this.#onData(chunk))
			.on('trailers', (headers: IncomingHttpHeaders) => {
				this.#trailers = headers;
			})
			.on('drain', () => {
				if (!this.#isOver) this.#listener.onWritable();
			})
			.on('end', () => this.#onEnd())
			.on('error', (error: Error) => {
				this.#failure = error.message;
			})
			.on('close', () => this.#finish(this.#endOfStream()));
	}

	send(frame: ChannelRequest): boolean {
		if (this.#isOver || this.#isEnded || this.#stream.destroyed) return false;
		return writeMessage(this.#stream, ChannelRequestSchema, frame, encode);
	}

	end(): void {
		if (this.#isOver || this.#isEnded) return;
		this.#isEnded = true;
		this.#stream.end();
	}

	cancel(): void {
		// What the listener hears comes with the stream's end, not from within this call.
		if (this.#isOver) return;
		this.#failure = 'the stream was cancelled';
		const wasPending = this.#stream.pending;
		this.#stream.close(constants.NGHTTP2_CANCEL);
		// Else its reset waits for a connection, which may never be there.
		if (wasPending) this.#stream.destroy();
	}

	#onResponse(headers: IncomingHttpHeaders & { readonly ':status'?: number | undefined }): void {
		if (headers['grpc-status'] !== undefined) this.#trailers = headers;
		else if (headers[':status'] !== 200) this.#fail('UNAVAILABLE', `the gateway answered ${headers[':status']}`);
	}

	#onData(chunk: Buffer): void {
		if (this.#isOver) return;
		buffersCame(chunk.length);
		const frames: ChannelResponse[] = [];
		try {
			for (const { flags, data } of this.#decoder.push(chunk)) {
				if ((flags & COMPRESSED_FLAG) !== 0) throw new Error('the gateway sent a compressed message');
				frames.push(fromBinary(ChannelResponseSchema, data));
			}
		} catch (error) {
			this.#fail('INTERNAL', error instanceof Error ? error.message : String(error));
		}
		for (const frame of frames) if (!this.#isOver) this.#listener.onFrame(frame);
	}

	/** The gateway has said its last. */
	#onEnd(): void {
		if (this.#trailers === undefined) {
			// A stream that was reset ends here too, and `close` says why.
			if (this.#stream.closed || this.#stream.destroyed) return;
			this.#fail('UNAVAILABLE', 'the gateway ended the stream without a status');
			return;
		}
		// What it didn't read of us it never will.
		if (this.#stream.writableLength > 0) this.#stream.close(constants.NGHTTP2_CANCEL);
		else this.#stream.end();
		this.#finish(endOf(this.#trailers));
	}

	#fail(code: string, message: string): void {
		this.#stream.close(constants.NGHTTP2_CANCEL);
		this.#finish({ code, reason: '', message, retryAfterMs: 0 });
	}

	#endOfStream(): StreamEnd {
		if (this.#trailers !== undefined) return endOf(this.#trailers);
		const code = CODE_OF_RESET.get(this.#stream.rstCode) ?? 'UNAVAILABLE';
		return { code, reason: '', message: this.#failure, retryAfterMs: 0 };
	}

	#finish(end: StreamEnd): void {
		if (this.#isOver) return;
		this.#isOver = true;
		this.#onOver();
		this.#listener.onClosed(end);
	}
}

/** As gRPC reads them; whatever isn't here is a connection that broke. */
const CODE_OF_RESET: ReadonlyMap<number | undefined, string> = new Map([
	[constants.NGHTTP2_CANCEL, 'CANCELLED'],
	[constants.NGHTTP2_ENHANCE_YOUR_CALM, 'RESOURCE_EXHAUSTED'],
]);

const CODE_OF_NUMBER: ReadonlyMap<string, string> = new Map([
	['0', 'OK'],
	...Object.entries(CODE_NUMBER).map(([name, number]) => [String(number), name] as const),
]);

const RETRY_AFTER_MAX_MS = 3_600_000;

function endOf(headers: IncomingHttpHeaders): StreamEnd {
	const text = (name: string) => {
		const value = headers[name];
		return typeof value === 'string' ? value : '';
	};
	const retryAfterMs = Number(text('retry-after')) * 1000;
	return {
		code: CODE_OF_NUMBER.get(text('grpc-status')) ?? 'UNKNOWN',
		reason: text('gpuaas-reason'),
		message: decoded(text('grpc-message')),
		retryAfterMs: Number.isFinite(retryAfterMs) ? Math.min(Math.max(0, retryAfterMs), RETRY_AFTER_MAX_MS) : 0,
	};
}

/** Percent-encoded; as it is where that is broken. */
function decoded(message: string): string {
	try {
		return decodeURIComponent(message);
	} catch {
		return message;
	}
}

function encode(message: Message): Uint8Array {
	return toBinary(ChannelRequestSchema, message as ChannelRequest);
}

function tooLarge(bytes: number): Error {
	return new Error(`the gateway announced a message of ${bytes} bytes`);
}
