import { type ClientHttp2Stream, constants, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http2';
import type { DescMessage, DescMethodStreaming, Message } from '@bufbuild/protobuf';
import {
	Code,
	ConnectError,
	type ContextValues,
	createContextKey,
	createContextValues,
	type StreamRequest,
	type Transport,
} from '@connectrpc/connect';
import { createClientMethodSerializers, createMethodUrl, runStreamingCall } from '@connectrpc/connect/protocol';
import { endStreamFromJson, requestHeader, validateResponse } from '@connectrpc/connect/protocol-connect';
import { buffersCame } from '../kit/young-garbage.ts';
import { END_FLAG, ENVELOPE_HEAD_BYTES, type Envelope, EnvelopeDecoder } from '../proto/envelope.ts';
import { writeMessage } from '../proto/write-message.ts';

/**
 * Streams in both directions straight on the transport's HTTP/2 connection, in the Connect protocol with protobuf, not
 * compressed: see control-plane/api/direct-streams.ts, the other end. Everything else is the transport's.
 */
export interface Sessions {
	request(
		method: string,
		path: string,
		headers: OutgoingHttpHeaders,
		options: Record<string, never>,
	): Promise<ClientHttp2Stream>;
	/** Else a connection that is busy looks dead to it. */
	notifyResponseByteRead(stream: ClientHttp2Stream): void;
}

/** Says when the next message may come; undefined: now. Never throws or rejects. */
type Take = (message: Message) => Promise<void> | undefined;
const TAKE = createContextKey<Take | undefined>(undefined);

/**
 * Gives each message to `take` when it comes, in place of the iterator, which then only ends: a message passes through
 * some twenty promises otherwise, which is a seventh of what bulk costs the command. Other transports know nothing of it.
 */
export function takenBy<T extends Message>(take: (message: T) => Promise<void> | undefined): ContextValues {
	return createContextValues().set(TAKE, take as Take);
}

/** What the API sends at most; its screens are the largest. */
const MESSAGE_BYTES_MAX = 32 * 1024 * 1024;

export function withDirectStreams(
	base: Transport,
	sessions: Sessions,
	options: {
		readonly baseUrl: string;
		readonly interceptors: NonNullable<Parameters<typeof runStreamingCall>[0]['interceptors']>;
	},
): Transport {
	const { baseUrl, interceptors } = options;
	return {
		unary: base.unary,
		stream(method, signal, timeoutMs, header, input, contextValues) {
			if (method.methodKind !== 'bidi_streaming')
				return base.stream(method, signal, timeoutMs, header, input, contextValues);
			return runStreamingCall<typeof method.input, typeof method.output>({
				interceptors,
				...(signal === undefined ? {} : { signal }),
				...(timeoutMs === undefined ? {} : { timeoutMs }),
				req: {
					stream: true,
					service: method.parent,
					method,
					requestMethod: 'POST',
					url: createMethodUrl(baseUrl, method),
					header: requestHeader(method.methodKind, true, timeoutMs, header, true),
					contextValues: contextValues ?? createContextValues(),
					message: input,
				},
				next: (request) => call(sessions, request),
			});
		},
	};
}

type Call<I extends DescMessage, O extends DescMessage> = StreamRequest<I, O> & {
	readonly method: DescMethodStreaming<I, O>;
};

async function call<I extends DescMessage, O extends DescMessage>(sessions: Sessions, request: StreamRequest<I, O>) {
	const { method, url, header, signal, message, contextValues } = request as Call<I, O>;
	const headers: OutgoingHttpHeaders = Object.fromEntries(header);
	const opened = sessions.request('POST', new URL(url).pathname, headers, {});
	const stream = await opened.catch((error: unknown) => {
		throw fromNode(error);
	});
	const { serialize, parse } = createClientMethodSerializers(method, true);
	const take = contextValues.get(TAKE);
	const given = take && ((bytes: Uint8Array) => take(parse(bytes)));
	const incoming = new Incoming(stream, () => sessions.notifyResponseByteRead(stream), given);
	const leave = () => incoming.leave();
	if (signal.aborted) leave();
	signal.addEventListener('abort', leave, { once: true });
	stream.once('close', () => signal.removeEventListener('abort', leave));
	const encode = serialize as (message: Message) => Uint8Array;
	void send(stream, message, (one) => writeMessage(stream, method.input, one, encode));
	const { status, answer } = await responseOf(stream);
	validateResponse(method.methodKind, true, status, answer);
	const trailer = new Headers();
	return { ...request, header: answer, trailer, message: messagesOf(incoming, parse, answer, trailer) };
}

function responseOf(stream: ClientHttp2Stream): Promise<{ readonly status: number; readonly answer: Headers }> {
	return new Promise((resolve, reject) => {
		stream.once('response', (headers: IncomingHttpHeaders & { ':status'?: number }) => {
			const answer = new Headers();
			for (const [name, value] of Object.entries(headers))
				if (!name.startsWith(':') && value !== undefined) answer.set(name, String(value));
			resolve({ status: headers[':status'] ?? 0, answer });
		});
		stream.once('error', (error) => reject(fromNode(error)));
		stream.once('close', () => reject(resetOf(stream) ?? cut()));
	});
}

/** Until the caller has said its last, or the stream is gone. What fails here shows where the answer is read. */
async function send<T>(
	stream: ClientHttp2Stream,
	messages: AsyncIterable<T>,
	one: (message: T) => boolean,
): Promise<void> {
	try {
		for await (const message of messages) {
			if (stream.destroyed || stream.writableEnded) return;
			if (!one(message) && stream.writableLength > AHEAD_BYTES_MAX) await drained(stream);
		}
		stream.end();
	} catch {
		stream.close(constants.NGHTTP2_CANCEL);
	}
}

function drained(stream: ClientHttp2Stream): Promise<void> {
	return new Promise((resolve) => {
		const over = () => {
			stream.off('drain', over);
			stream.off('close', over);
			resolve();
		};
		stream.on('drain', over);
		stream.on('close', over);
	});
}

async function* messagesOf<T>(
	incoming: Incoming,
	parse: (bytes: Uint8Array) => T,
	answer: Headers,
	trailer: Headers,
): AsyncGenerator<T> {
	try {
		for (;;) {
			const envelope = await incoming.next();
			if (!isEnd(envelope)) {
				yield parse(envelope.data);
				continue;
			}
			incoming.end();
			const { error, metadata } = endStreamFromJson(envelope.data);
			if (error !== undefined) {
				for (const [name, value] of answer) error.metadata.append(name, value);
				throw error;
			}
			for (const [name, value] of metadata) trailer.set(name, value);
			return;
		}
	} finally {
		incoming.leave();
	}
}

/** Bytes that may wait, in either direction: past it the sender waits, or HTTP/2's window holds the server back. */
const AHEAD_BYTES_MAX = 256 * 1024;

class Incoming {
	readonly #stream: ClientHttp2Stream;
	readonly #take: ((bytes: Uint8Array) => Promise<void> | undefined) | undefined;
	readonly #decoder = new EnvelopeDecoder(MESSAGE_BYTES_MAX, tooLarge);
	readonly #queue: Envelope[] = [];
	#aheadBytes = 0;
	/** `take` isn't done with one: what comes behind it waits. */
	#isTaking = false;
	#isEnded = false;
	#isLeft = false;
	#failure: ConnectError | undefined;
	#wake: (() => void) | undefined;

	/** With `take`, `next` gives only what ends the stream. */
	constructor(
		stream: ClientHttp2Stream,
		onRead: () => void,
		take: ((bytes: Uint8Array) => Promise<void> | undefined) | undefined,
	) {
		this.#stream = stream;
		this.#take = take;
		stream.on('data', (chunk: Buffer) => {
			if (this.#isLeft) return;
			onRead();
			buffersCame(chunk.length);
			try {
				for (const envelope of this.#decoder.push(chunk)) {
					this.#queue.push(envelope);
					this.#aheadBytes += envelope.data.length + ENVELOPE_HEAD_BYTES;
				}
				this.#give();
			} catch (error) {
				this.#break(error);
			}
			if (this.#aheadBytes > AHEAD_BYTES_MAX) stream.pause();
			this.#wake?.();
		});
		stream.on('error', (error) => this.#fail(fromNode(error)));
		stream.once('end', () => this.#fail(resetOf(stream) ?? cut()));
		stream.once('close', () => this.#fail(resetOf(stream) ?? cut()));
	}

	/** Throws once there are no more. */
	async next(): Promise<Envelope> {
		for (;;) {
			const envelope = this.#isTaking ? undefined : this.#shift();
			if (envelope !== undefined) return envelope;
			// Whoever leaves doesn't wait for what is not done with the last one: their terminal may take nothing.
			if (this.#failure !== undefined && (!this.#isTaking || this.#isLeft)) throw this.#failure;
			await new Promise<void>((resolve) => {
				this.#wake = resolve;
			});
		}
	}

	#give(): void {
		while (this.#take !== undefined && !this.#isTaking && !this.#isLeft) {
			const [first] = this.#queue;
			if (first === undefined || isEnd(first)) return;
			this.#shift();
			const taking = this.#take(first.data);
			if (taking === undefined) continue;
			this.#isTaking = true;
			void taking.then(() => this.#taken());
		}
	}

	#taken(): void {
		this.#isTaking = false;
		try {
			this.#give();
		} catch (error) {
			this.#break(error);
		}
		if (!this.#isTaking) this.#wake?.();
	}

	#shift(): Envelope | undefined {
		const envelope = this.#queue.shift();
		if (envelope === undefined) return undefined;
		this.#aheadBytes -= envelope.data.length + ENVELOPE_HEAD_BYTES;
		if (this.#aheadBytes <= AHEAD_BYTES_MAX && this.#stream.isPaused()) this.#stream.resume();
		return envelope;
	}

	/** What came can't be read. */
	#break(error: unknown): void {
		if (this.#take !== undefined) this.#queue.length = 0;
		this.#fail(ConnectError.from(error));
		this.#stream.close(constants.NGHTTP2_CANCEL);
	}

	/** The server has said its last. */
	end(): void {
		this.#isEnded = true;
		this.#stream.end();
	}

	/** Nobody reads on. */
	leave(): void {
		this.#isLeft = true;
		if (!this.#isEnded && !this.#stream.closed) this.#stream.close(constants.NGHTTP2_CANCEL);
	}

	#fail(error: ConnectError): void {
		this.#failure ??= error;
		this.#wake?.();
	}
}

function isEnd({ flags }: Envelope): boolean {
	return (flags & END_FLAG) !== 0;
}

function tooLarge(bytes: number): ConnectError {
	return new ConnectError(`a message of ${bytes} bytes was announced`, Code.ResourceExhausted);
}

function cut(): ConnectError {
	return new ConnectError('the stream ended in the middle', Code.Unavailable);
}

function resetOf({ rstCode }: ClientHttp2Stream): ConnectError | undefined {
	if (rstCode === undefined || rstCode === constants.NGHTTP2_NO_ERROR) return undefined;
	const code = rstCode === constants.NGHTTP2_CANCEL ? Code.Canceled : Code.Unavailable;
	return new ConnectError(`http/2 stream closed with error code ${rstCode}`, code);
}

function fromNode(error: unknown): ConnectError {
	return ConnectError.from(error, Code.Unavailable);
}
