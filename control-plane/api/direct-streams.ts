import { constants, type Http2ServerRequest, type Http2ServerResponse, type ServerHttp2Stream } from 'node:http2';
import type { DescMessage, Message } from '@bufbuild/protobuf';
import {
	Code,
	ConnectError,
	type ContextValues,
	createHandlerContext,
	type HandlerContext,
	type Interceptor,
	type MethodImplSpec,
} from '@connectrpc/connect';
import {
	createMethodSerializationLookup,
	type Serialization,
	transformInvokeImplementation,
	type UniversalHandlerOptions,
} from '@connectrpc/connect/protocol';
import {
	contentTypeStreamProto,
	createEndStreamSerialization,
	headerStreamEncoding,
	headerTimeout,
	parseTimeout,
} from '@connectrpc/connect/protocol-connect';
import { END_FLAG, ENVELOPE_HEAD_BYTES, envelopeHead } from '../../proto/envelope.ts';
import { writeMessage } from '../../proto/write-message.ts';
import { CALL_STATE } from './call-state.ts';
import { IncomingMessages } from './incoming-messages.ts';
import { webHeaders } from './web-headers.ts';

/**
 * Streams in both directions as the command opens them (Connect protocol, protobuf, not compressed) straight on
 * node:http2: the framework passes each message through some ten async generators and copies it four times, which is
 * most of what a terminal's key or a megabyte cost. Gate, interceptors and use case are the framework's and the same;
 * gRPC, gRPC-web, JSON and whatever is compressed stay with the framework.
 */
export interface DirectOptions {
	readonly requestGate: (context: HandlerContext) => Promise<void>;
	readonly interceptors: Interceptor[];
	readonly readMaxBytes: number;
	readonly writeMaxBytes: number;
	readonly maxTimeoutMs: number;
	readonly jsonOptions: UniversalHandlerOptions['jsonOptions'];
	readonly shutdownSignal: AbortSignal;
	/** Of what no interceptor saw. */
	readonly onFault: (values: ContextValues, thrown: unknown) => void;
}

export type DirectHandler = (request: Http2ServerRequest, response: Http2ServerResponse, values: ContextValues) => void;

/** Whether the direct way serves a request to a method with streams in both directions. */
export function isDirect({ method, headers }: Http2ServerRequest): boolean {
	const encoding = headers[headerStreamEncoding.toLowerCase()];
	return (
		method === 'POST' &&
		headers['content-type'] === contentTypeStreamProto &&
		(encoding === undefined || encoding === 'identity')
	);
}

export function directHandler(spec: MethodImplSpec, options: DirectOptions): DirectHandler {
	const call = new DirectMethod(spec, options);
	return (request, response, values) => void call.serve(request, response, values);
}

class DirectMethod {
	readonly #spec: MethodImplSpec;
	readonly #options: DirectOptions;
	readonly #input: Serialization<Message>;
	readonly #output: Serialization<Message>;
	readonly #end: ReturnType<typeof createEndStreamSerialization>;

	constructor(spec: MethodImplSpec, options: DirectOptions) {
		this.#spec = spec;
		this.#options = options;
		const lookup = createMethodSerializationLookup(spec.method, undefined, options.jsonOptions, options);
		this.#input = lookup.getI(true);
		this.#output = lookup.getO(true);
		this.#end = createEndStreamSerialization(options.jsonOptions);
	}

	/** Never rejects: whatever fails is what the stream ends with. */
	async serve(request: Http2ServerRequest, response: Http2ServerResponse, values: ContextValues): Promise<void> {
		const { stream } = request;
		const { requestGate, interceptors, readMaxBytes, onFault } = this.#options;
		const timeout = parseTimeout(header(request, headerTimeout), this.#options.maxTimeoutMs);
		const context = this.#context(request, timeout.timeoutMs, values);
		const outgoing = new Outgoing(stream, () => headersOf(response, context.responseHeader));
		const send = (message: Message) => outgoing.send(this.#spec.method.output, message, this.#output);
		const state = values.get(CALL_STATE);
		if (state !== undefined) state.push = send;
		let error: ConnectError | undefined;
		let incoming: IncomingMessages | undefined;
		let isSending = false;
		try {
			await requestGate(context);
			if (timeout.error !== undefined) throw timeout.error;
			context.signal.throwIfAborted();
			incoming = new IncomingMessages(stream, this.#input, readMaxBytes);
			const messages = transformInvokeImplementation(this.#spec, context, interceptors)(incoming);
			for await (const message of messages) {
				isSending = true;
				await send(message);
				isSending = false;
			}
		} catch (thrown) {
			// In this order: who listens to the signal puts the error into our words (interceptors/misread.ts).
			context.abort(thrown);
			const isOfChain = thrown instanceof ConnectError && !isSending;
			error = isOfChain ? thrown : new ConnectError('internal error', Code.Internal);
			// What the chain throws was logged there, and put into words for callers.
			if (!isOfChain && !stream.closed) onFault(values, thrown);
		} finally {
			// What still comes is read by nobody, and must not be kept.
			void incoming?.return();
		}
		context.abort();
		const end = { metadata: context.responseTrailer, ...(error === undefined ? {} : { error }) };
		outgoing.end(this.#end.serialize(end));
	}

	#context(request: Http2ServerRequest, timeoutMs: number | undefined, contextValues: ContextValues) {
		const { stream, url, authority } = request;
		const closed = new AbortController();
		stream.once('close', () => closed.abort(resetError(stream.rstCode) ?? gone()));
		return createHandlerContext({
			...this.#spec,
			service: this.#spec.method.parent,
			requestMethod: 'POST',
			protocolName: 'connect',
			...(timeoutMs === undefined ? {} : { timeoutMs }),
			shutdownSignal: this.#options.shutdownSignal,
			requestSignal: closed.signal,
			requestHeader: webHeaders(request),
			url: `https://${authority}${url}`,
			responseHeader: { 'content-type': contentTypeStreamProto },
			contextValues,
		});
	}
}

/** What may wait in a stream: it goes out together, for a fraction of what each message costs alone. */
const AHEAD_BYTES_MAX = 256 * 1024;

/** The answer: its headers go out with the first message, so that the use case can still set some. */
class Outgoing {
	readonly #stream: ServerHttp2Stream;
	readonly #headers: () => Record<string, string | string[]>;

	constructor(stream: ServerHttp2Stream, headers: () => Record<string, string | string[]>) {
		this.#stream = stream;
		this.#headers = headers;
	}

	/** Resolves when the stream takes more, undefined where it does at once; rejects or throws when it is gone. */
	send(desc: DescMessage, message: Message, serialization: Serialization<Message>): Promise<void> | undefined {
		this.#respond();
		const stream = this.#stream;
		const isTaken = writeMessage(stream, desc, message, (one) => serialization.serialize(one));
		return isTaken || stream.writableLength <= AHEAD_BYTES_MAX ? undefined : drained(stream);
	}

	end(trailer: Uint8Array): void {
		if (this.#stream.destroyed || this.#stream.closed) return;
		this.#respond();
		const whole = envelopeHead(END_FLAG, 0, trailer.length);
		whole.set(trailer, ENVELOPE_HEAD_BYTES);
		this.#stream.end(whole);
	}

	#respond(): void {
		if (this.#stream.destroyed || this.#stream.closed) throw gone();
		if (!this.#stream.headersSent) this.#stream.respond({ ':status': 200, ...this.#headers() });
	}
}

function drained(stream: ServerHttp2Stream): Promise<void> {
	return new Promise((resolve, reject) => {
		const over = () => {
			stream.off('drain', over);
			stream.off('close', over);
			if (stream.destroyed || stream.closed) reject(gone());
			else resolve();
		};
		stream.on('drain', over);
		stream.on('close', over);
	});
}

function gone(): ConnectError {
	return new ConnectError('the stream is closed', Code.Canceled);
}

/** Undefined for a stream that ended by itself, or whose connection was cut. */
function resetError(code: number | undefined): ConnectError | undefined {
	if (code === undefined || code === constants.NGHTTP2_NO_ERROR) return undefined;
	return new ConnectError(`http/2 stream closed with error code ${code}`, RESETS.get(code) ?? Code.Internal);
}

const RESETS: ReadonlyMap<number, Code> = new Map([
	[constants.NGHTTP2_REFUSED_STREAM, Code.Unavailable],
	[constants.NGHTTP2_CANCEL, Code.Canceled],
	[constants.NGHTTP2_STREAM_CLOSED, Code.Canceled],
	[constants.NGHTTP2_ENHANCE_YOUR_CALM, Code.ResourceExhausted],
]);

function header({ headers }: Http2ServerRequest, name: string): string | null {
	const value = headers[name.toLowerCase()];
	return typeof value === 'string' ? value : null;
}

/** What the server set on every answer, and what the call did. */
function headersOf(response: Http2ServerResponse, own: Headers): Record<string, string | string[]> {
	const all: Record<string, string | string[]> = {};
	for (const [name, value] of Object.entries(response.getHeaders())) all[name] = value as string | string[];
	for (const [name, value] of own) all[name] = value;
	return all;
}
