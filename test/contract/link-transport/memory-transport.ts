import { clone, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import type {
	ClientListener,
	ClientStream,
	LinkConnection,
	LinkTarget,
	LinkTransport,
	StreamEnd,
} from '../../../agent/control/link-transport.ts';
import { Channels } from '../../../control-plane/gateway/channel.ts';
import { AgentLink } from '../../../control-plane/gateway/link.ts';
import type { LinkDeps } from '../../../control-plane/gateway/link-deps.ts';
import { OutputUploads } from '../../../control-plane/gateway/output.ts';
import { Renewals } from '../../../control-plane/gateway/renew.ts';
import type { ServerStream, StreamListener } from '../../../control-plane/gateway/stream.ts';
import type { Clock } from '../../../kit/clock.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { ChannelRequestSchema, ChannelResponseSchema } from '../../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import {
	ConnectRequestSchema,
	ConnectResponseSchema,
	UploadOutputRequestSchema,
	UploadOutputResponseSchema,
} from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';

/**
 * The link in memory: the real gateway logic and the real agent joined without sockets, TLS or HTTP/2, each frame
 * delivered by a timer of the given clock. What TLS proves is taken from the target as it is; so certificates are
 * judged here exactly as behind TLS, and nothing else of TLS is shown. Frames are copied on their way, as on a wire.
 */
export interface MemoryGateway {
	readonly deps: LinkDeps;
	readonly link: AgentLink;
	readonly uploads: OutputUploads;
	readonly channels: Channels;
	readonly renewals: Renewals;
}

export function memoryGateway(deps: LinkDeps): MemoryGateway {
	return {
		deps,
		link: new AgentLink(deps),
		uploads: new OutputUploads(deps),
		channels: new Channels(deps),
		renewals: new Renewals(deps),
	};
}

/** How the network treats one frame: undefined loses the whole connection. */
export type Weather = () => { readonly delayMs: number } | undefined;

export interface MemoryTransportOptions {
	readonly clock: Clock;
	/** By address; undefined when nothing listens there. */
	readonly gateway: (address: string) => MemoryGateway | undefined;
	readonly weather?: Weather;
	/** Frames of one stream and direction on the way, above which a sender is told to wait. */
	readonly windowFrames?: number;
}

const WINDOW_FRAMES = 16;

export class MemoryTransport implements LinkTransport {
	readonly #options: MemoryTransportOptions;
	readonly #connections = new Set<MemoryConnection>();
	#ports = 0;

	constructor(options: MemoryTransportOptions) {
		this.#options = options;
	}

	open(target: LinkTarget): LinkConnection {
		this.#ports += 1;
		const connection = new MemoryConnection(this.#options, target, `memory:${this.#ports}`);
		this.#connections.add(connection);
		return connection;
	}

	/** Breaks all connections: both ends hear of it. */
	cut(): void {
		for (const connection of this.#connections) connection.break('the connection was cut');
		this.#connections.clear();
	}

	/** From now on these connections carry nothing and end by nothing. */
	halfOpen(): void {
		for (const connection of this.#connections) connection.silence();
	}
}

class MemoryConnection implements LinkConnection {
	readonly #options: MemoryTransportOptions;
	readonly #target: LinkTarget;
	readonly #peer: string;
	readonly #pipes = new Set<Pipe>();
	#isClosed = false;

	constructor(options: MemoryTransportOptions, target: LinkTarget, peer: string) {
		this.#options = options;
		this.#target = target;
		this.#peer = peer;
	}

	connect: LinkConnection['connect'] = (listener) =>
		this.#stream(listener, ConnectRequestSchema, ConnectResponseSchema, (gateway, stream) =>
			gateway.link.accept(stream),
		);

	uploadOutput: LinkConnection['uploadOutput'] = (listener) =>
		this.#stream(listener, UploadOutputRequestSchema, UploadOutputResponseSchema, (gateway, stream) =>
			gateway.uploads.accept(stream),
		);

	channel: LinkConnection['channel'] = (listener) =>
		this.#stream(listener, ChannelRequestSchema, ChannelResponseSchema, (gateway, stream) =>
			gateway.channels.accept(stream),
		);

	renewCertificate: LinkConnection['renewCertificate'] = async (request) => {
		const gateway = this.#gateway();
		if (gateway === undefined) {
			const message = 'nothing listens there';
			throw new GpuaasError({ code: 'UNAVAILABLE', reason: 'UNREACHABLE', message });
		}
		return await gateway.renewals.renew(this.#target.credential.leafDer, this.#peer, request);
	};

	close(): void {
		this.#isClosed = true;
		this.break('Cancelled on client', 'CANCELLED');
	}

	break(message: string, code = 'UNAVAILABLE'): void {
		for (const pipe of [...this.#pipes]) pipe.break(code, message);
		this.#pipes.clear();
	}

	silence(): void {
		for (const pipe of this.#pipes) pipe.silence();
	}

	#gateway(): MemoryGateway | undefined {
		return this.#isClosed ? undefined : this.#options.gateway(this.#target.gateway);
	}

	#stream<Up extends DescMessage, Down extends DescMessage>(
		listener: ClientListener<MessageShape<Down>>,
		up: Up,
		down: Down,
		accept: (gateway: MemoryGateway, stream: ServerStream<MessageShape<Down>>) => StreamListener<MessageShape<Up>>,
	): ClientStream<MessageShape<Up>> {
		const pipe = new Pipe(
			this.#options,
			() => this.break('the connection was lost'),
			(end) => listener.onClosed(end),
		);
		this.#pipes.add(pipe);
		const upward = pipe.lane<MessageShape<Up>>((frame) => clone(up, frame));
		const downward = pipe.lane<MessageShape<Down>>((frame) => clone(down, frame));
		downward.start({
			onFrame: (frame) => listener.onFrame(frame),
			onEnd: () => {},
			onRoom: () => served?.onWritable(),
		});
		let served: StreamListener<MessageShape<Up>> | undefined;
		pipe.later(() => {
			const gateway = this.#gateway();
			if (gateway === undefined) {
				pipe.break('UNAVAILABLE', 'nothing listens there');
				return;
			}
			const listening = accept(gateway, {
				peer: this.#peer,
				leafDer: this.#target.credential.leafDer,
				send: (frame) => downward.send(frame),
				end: ({ code, reason, message, retryAfterMs = 0 }) =>
					downward.end(() => pipe.end({ code, reason, message, retryAfterMs: Math.ceil(retryAfterMs / 1000) * 1000 })),
				destroy: () => this.break('the server destroyed the connection'),
				pause: () => upward.pause(),
				resume: () => upward.resume(),
			});
			served = listening;
			pipe.onServerClosed = () => listening.onClosed();
			upward.start({
				onFrame: (frame) => listening.onFrame(frame),
				onEnd: () => listening.onEnd(),
				onRoom: () => listener.onWritable(),
			});
		});
		return {
			send: (frame) => upward.send(frame),
			end: () => upward.end(() => {}),
			cancel: () => pipe.break('CANCELLED', 'Cancelled on client'),
		};
	}
}

/** Both directions of one stream. */
class Pipe {
	readonly #options: MemoryTransportOptions;
	readonly #onLost: () => void;
	readonly #onClientClosed: (end: StreamEnd) => void;
	onServerClosed: () => void = () => {};
	#isOver = false;
	#isSilent = false;

	constructor(options: MemoryTransportOptions, onLost: () => void, onClientClosed: (end: StreamEnd) => void) {
		this.#options = options;
		this.#onLost = onLost;
		this.#onClientClosed = onClientClosed;
	}

	get isOver(): boolean {
		return this.#isOver;
	}

	lane<Frame>(copy: (frame: Frame) => Frame): Lane<Frame> {
		return new Lane(this, copy, this.#options.windowFrames ?? WINDOW_FRAMES);
	}

	/** In order of the calls: a later frame never overtakes an earlier one. */
	#dueMs = 0;
	later(work: () => void): void {
		const weather = this.#options.weather === undefined ? { delayMs: 0 } : this.#options.weather();
		if (weather === undefined) {
			this.#onLost();
			return;
		}
		const nowMs = this.#options.clock.monotonic();
		this.#dueMs = Math.max(this.#dueMs, nowMs + weather.delayMs);
		this.#options.clock.setTimer(() => {
			if (!this.#isOver && !this.#isSilent) work();
		}, this.#dueMs - nowMs);
	}

	silence(): void {
		this.#isSilent = true;
	}

	end(end: StreamEnd): void {
		if (this.#isOver) return;
		this.#isOver = true;
		this.#onClientClosed(end);
		this.onServerClosed();
	}

	/** Not at once: whoever opened the stream must have it in hand before it hears of its end. */
	break(code: string, message: string): void {
		if (this.#isOver) return;
		this.#isOver = true;
		this.#options.clock.setTimer(() => {
			this.#onClientClosed({ code, reason: '', message, retryAfterMs: 0 });
			this.onServerClosed();
		}, 0);
	}
}

interface Receiver<Frame> {
	onFrame(frame: Frame): void;
	onEnd(): void;
	onRoom(): void;
}

/** One direction: a window of frames, held while the receiver is paused. */
class Lane<Frame> {
	readonly #pipe: Pipe;
	readonly #copy: (frame: Frame) => Frame;
	readonly #windowFrames: number;
	#receiver: Receiver<Frame> | undefined;
	#arrived: (Frame | undefined)[] = [];
	#inFlight = 0;
	#isPaused = false;
	#isFull = false;
	#isEnded = false;
	#afterEnd: () => void = () => {};

	constructor(pipe: Pipe, copy: (frame: Frame) => Frame, windowFrames: number) {
		this.#pipe = pipe;
		this.#copy = copy;
		this.#windowFrames = windowFrames;
	}

	start(receiver: Receiver<Frame>): void {
		this.#receiver = receiver;
		this.#deliver();
	}

	send(frame: Frame): boolean {
		if (this.#pipe.isOver || this.#isEnded) return false;
		this.#inFlight += 1;
		const copied = this.#copy(frame);
		this.#pipe.later(() => this.#arrive(copied));
		this.#isFull = this.#inFlight >= this.#windowFrames;
		return !this.#isFull;
	}

	end(afterEnd: () => void): void {
		if (this.#isEnded) return;
		this.#isEnded = true;
		this.#afterEnd = afterEnd;
		this.#pipe.later(() => this.#arrive(undefined));
	}

	pause(): void {
		this.#isPaused = true;
	}

	resume(): void {
		if (!this.#isPaused) return;
		this.#isPaused = false;
		this.#pipe.later(() => this.#deliver());
	}

	#arrive(frame: Frame | undefined): void {
		this.#arrived.push(frame);
		this.#deliver();
	}

	#deliver(): void {
		while (this.#receiver !== undefined && !this.#isPaused && !this.#pipe.isOver && this.#arrived.length > 0) {
			const frame = this.#arrived.shift();
			if (frame === undefined) {
				this.#receiver.onEnd();
				this.#afterEnd();
				return;
			}
			this.#inFlight -= 1;
			this.#receiver.onFrame(frame);
			if (!this.#isFull || this.#inFlight > this.#windowFrames / 2) continue;
			this.#isFull = false;
			this.#receiver.onRoom();
		}
	}
}
