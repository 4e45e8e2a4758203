import { constants, type ServerHttp2Stream } from 'node:http2';
import { fromBinary, type Message, toBinary } from '@bufbuild/protobuf';
import { Metadata, type ServerDuplexStream } from '@grpc/grpc-js';
import type { Clock } from '../../kit/clock.ts';
import { messageOf } from '../../kit/error.ts';
import { buffersCame } from '../../kit/young-garbage.ts';
import { COMPRESSED_FLAG, EnvelopeDecoder } from '../../proto/envelope.ts';
import {
	type ChannelRequest,
	ChannelRequestSchema,
	type ChannelResponse,
	ChannelResponseSchema,
} from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { writeMessage } from '../../proto/write-message.ts';
import { leafOf, statusObject, streamOf } from './calls.ts';
import type { ServerStream, StreamListener, StreamStatus } from './stream.ts';

interface DirectLimits {
	readonly messageBytesMax: number;
	/** What a stream that we ended has for what was written before: a peer that gives no window takes none of it. */
	readonly unreadGraceMs: number;
}

/** Of what a peer has not taken, in messages of the largest size: several times what the windows of a channel allow. */
const UNREAD_MESSAGES_MAX = 2;

/**
 * Serves `Channel` past grpc-js: it has judged the call (content type, deadline, idle time of the connection) and says
 * how it ended, while messages go straight through the call's HTTP/2 stream. grpc-js copies a message twice and makes
 * some ten calls, a promise and a pause of it, which was a third of what bulk cost the gateway. The bytes are the same.
 *
 * test/integration/link-channel.test.ts holds this against the pinned grpc-js.
 */
export function serveDirect(
	call: ServerDuplexStream<ChannelRequest, ChannelResponse>,
	accept: (stream: ServerStream<ChannelResponse>) => StreamListener<ChannelRequest>,
	cut: (peer: string) => void,
	clock: Clock,
	limits: DirectLimits,
): void {
	const direct = new DirectCall(call, clock, limits);
	const leafDer = leafOf(call);
	const peer = call.getPeer();
	if (leafDer === undefined) {
		direct.end({
			code: 'UNAUTHENTICATED',
			reason: 'UNAUTHENTICATED',
			message: 'the connection has no client certificate',
		});
		return;
	}
	direct.start(
		accept({
			peer,
			leafDer,
			send: (frame) => direct.send(frame),
			end: (status) => direct.end(status),
			destroy: () => cut(peer),
			pause: () => direct.pause(),
			resume: () => direct.resume(),
		}),
	);
}

class DirectCall {
	readonly #call: ServerDuplexStream<ChannelRequest, ChannelResponse>;
	readonly #stream: ServerHttp2Stream;
	readonly #clock: Clock;
	readonly #limits: DirectLimits;
	readonly #decoder: EnvelopeDecoder;
	/** The headers of the answer are out. */
	#hasBegun = false;
	#isOver = false;

	constructor(call: ServerDuplexStream<ChannelRequest, ChannelResponse>, clock: Clock, limits: DirectLimits) {
		this.#call = call;
		this.#stream = streamOf(call);
		this.#clock = clock;
		this.#limits = limits;
		this.#decoder = new EnvelopeDecoder(limits.messageBytesMax, tooLarge);
	}

	start(listener: StreamListener<ChannelRequest>): void {
		const stream = this.#stream;
		// Those of grpc-js, which would decode it all as well.
		stream.removeAllListeners('data').removeAllListeners('end');
		// A reset with an error; `close` follows, and without a listener it would end the process.
		stream.on('error', () => {});
		stream.on('data', (chunk: Buffer) => this.#onData(chunk, listener));
		stream.on('end', () => {
			if (!this.#isOver) listener.onEnd();
		});
		stream.on('drain', () => {
			if (!this.#isOver) listener.onWritable();
		});
		// Of the stream: grpc-js is done with its call once there is a status, and the stream goes on for as long as the peer likes.
		const onClosed = () => {
			this.#isOver = true;
			listener.onClosed();
		};
		if (stream.destroyed) this.#clock.defer(onClosed);
		else stream.once('close', onClosed);
		stream.resume();
	}

	send(frame: ChannelResponse): boolean {
		if (this.#isOver || this.#stream.destroyed || this.#stream.closed) return false;
		if (!this.#hasBegun) this.#call.sendMetadata(new Metadata());
		this.#hasBegun = true;
		const isTaken = writeMessage(this.#stream, ChannelResponseSchema, frame, encode);
		// Nothing is lost: the agent comes back, and a channel begins again where it was taken.
		if (this.#stream.writableLength > UNREAD_MESSAGES_MAX * this.#limits.messageBytesMax)
			this.#stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
		return isTaken;
	}

	/** grpc-js takes an `error` event as the status to end with; it ends the stream behind what was written. */
	end(status: StreamStatus): void {
		if (this.#isOver) return;
		this.#isOver = true;
		const stream = this.#stream;
		// Once all is written half-open.ts has the rest; until then only a reset with an error doesn't wait for the peer.
		const unread = this.#clock.setTimer(() => {
			if (!stream.writableFinished) stream.close(constants.NGHTTP2_CANCEL);
		}, this.#limits.unreadGraceMs);
		stream.once('close', () => unread.cancel());
		this.#call.emit('error', statusObject(status));
	}

	pause(): void {
		this.#stream.pause();
	}

	resume(): void {
		this.#stream.resume();
	}

	/** What comes after the end is read and dropped, so that the stream can end. */
	#onData(chunk: Buffer, listener: StreamListener<ChannelRequest>): void {
		if (this.#isOver) return;
		buffersCame(chunk.length);
		const frames: ChannelRequest[] = [];
		let fault: string | undefined;
		try {
			for (const { flags, data } of this.#decoder.push(chunk)) {
				if ((flags & COMPRESSED_FLAG) !== 0) throw new Error('a message is compressed, which was not agreed on');
				frames.push(fromBinary(ChannelRequestSchema, data));
			}
		} catch (error) {
			fault = messageOf(error);
		}
		for (const frame of frames) if (!this.#isOver) listener.onFrame(frame);
		if (fault !== undefined) this.end({ code: 'INVALID_ARGUMENT', reason: 'INVALID_REQUEST', message: fault });
	}
}

function encode(message: Message): Uint8Array {
	return toBinary(ChannelResponseSchema, message as ChannelResponse);
}

function tooLarge(bytes: number): Error {
	return new Error(`a message of ${bytes} bytes was announced, which is too large`);
}
