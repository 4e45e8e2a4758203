import { create } from '@bufbuild/protobuf';
import type { Timer } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import { uuidv7 } from '../../kit/ids.ts';
import {
	type ChannelHello,
	type ChannelRequest,
	type ChannelResponse,
	ChannelResponseSchema,
} from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { CloseCode } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { NodeEnd, NodeEndListener } from '../app/terminals/node-end.ts';
import { statusOfClose } from './close-reason.ts';
import { nodeContext } from './context.ts';
import { violation } from './frames.ts';
import type { LinkDeps } from './link-deps.ts';
import type { ServerStream, StreamListener, StreamStatus } from './stream.ts';

/** Of ours; all other codes refuse what was asked. */
const FAULTS: ReadonlySet<string> = new Set(['INTERNAL', 'UNAVAILABLE']);

/**
 * `Channel` streams: an agent's end of a terminal, command, copy or forward. A stream says which in its hello, the use
 * case says whether it may go on, and then frames pass between it and the relay. Windows of the channel bound what is
 * on the way; a stream that says nothing has as long as any to say hello. It counts against its node until it is closed,
 * and not only until we have ended it: a node that reads nothing would have any number of them.
 */
export class Channels {
	readonly #deps: LinkDeps;

	constructor(deps: LinkDeps) {
		this.#deps = deps;
	}

	accept(stream: ServerStream<ChannelResponse>): StreamListener<ChannelRequest> {
		const channel = new ChannelStream(this.#deps, stream);
		channel.start();
		return {
			onFrame: (frame) => channel.onFrame(frame),
			onWritable: () => channel.onWritable(),
			onEnd: () => channel.end(),
			onClosed: () => channel.onClosed(),
		};
	}
}

/** Twice what a pty host opens, so that the streams of a connection that broke don't hold up those of the next. */
const STREAMS_PER_NODE_MAX = 1024;
const DATA_BYTES_MAX = 128 * 1024;

type Down = Parameters<NodeEnd['send']>[0];

/** What a later one takes the place of: the size, and a signal that is pending already, as POSIX has it. */
function replaceable(message: Down): string | undefined {
	if (message.case === 'resize') return 'resize';
	return message.case === 'signal' ? `signal ${message.value.name}` : undefined;
}

class ChannelStream implements NodeEnd {
	readonly #deps: LinkDeps;
	readonly #stream: ServerStream<ChannelResponse>;
	readonly #correlationId: string;
	#relay: NodeEndListener | undefined;
	/** Frames that came while the store was asked. */
	#early: ChannelRequest[] = [];
	#state: 'waiting' | 'opening' | 'open' | 'ended' = 'waiting';
	#detach: (() => void) | undefined;
	#helloTimer: Timer | undefined;
	/** Of the kinds that no window bounds, what waits for a node that doesn't read: the last of each. */
	readonly #waiting = new Map<string, Down>();
	#isWritable = true;

	constructor(deps: LinkDeps, stream: ServerStream<ChannelResponse>) {
		this.#deps = deps;
		this.#stream = stream;
		this.#correlationId = uuidv7(deps.app.clock.now(), deps.app.rng);
	}

	start(): void {
		const { helloTimeoutMs } = this.#deps.limits;
		this.#helloTimer = this.#deps.app.clock.setTimer(() => this.#protocol('no hello came'), helloTimeoutMs);
	}

	send(message: Down): void {
		if (this.#state === 'ended') return;
		const kind = this.#isWritable ? undefined : replaceable(message);
		if (kind !== undefined) this.#waiting.set(kind, message);
		else this.#isWritable = this.#stream.send(create(ChannelResponseSchema, { message })) && this.#isWritable;
	}

	onWritable(): void {
		this.#isWritable = true;
		const waiting = [...this.#waiting.values()];
		this.#waiting.clear();
		for (const message of waiting) this.send(message);
	}

	end(): void {
		this.#end({ code: 'OK', reason: '', message: '' });
	}

	onFrame(frame: ChannelRequest): void {
		if (this.#state === 'ended') return;
		if (this.#state === 'waiting') this.#hello(frame);
		else if (this.#state === 'opening') this.#takeEarly(frame);
		else this.#pass(frame);
	}

	onClosed(): void {
		this.#state = 'ended';
		this.#over();
		this.#detach?.();
		this.#detach = undefined;
	}

	#hello({ message }: ChannelRequest): void {
		if (message.case !== 'hello') {
			this.#protocol('a channel begins with hello');
			return;
		}
		const fault = violation(message.value);
		if (fault !== undefined) {
			this.#protocol(fault);
			return;
		}
		this.#helloTimer?.cancel();
		this.#state = 'opening';
		this.#open(message.value).catch((error: unknown) => this.#failed(error));
	}

	/** A stream that was opened sends nothing but its end before it is accepted. */
	#takeEarly(frame: ChannelRequest): void {
		if (this.#early.length > 0) this.#protocol('nothing but the end may come before the channel is accepted');
		else this.#early.push(frame);
	}

	async #open(hello: ChannelHello): Promise<void> {
		const { app, registry, limits } = this.#deps;
		const anonymous = nodeContext(app, 'Channel', this.#stream.peer, this.#correlationId, undefined);
		const peer = await this.#deps.authorizeStream(anonymous, this.#stream.leafDer);
		// It was closed meanwhile: nobody would take it out of the registry again.
		if (this.#state !== 'opening') return;
		if (peer.kind === 'refused') {
			this.#end(statusOfClose(peer.closeCode, peer.message, undefined, peer.reason));
			return;
		}
		if (registry.attachedCount(peer.nodeId) >= STREAMS_PER_NODE_MAX) {
			const retryAfterMs = limits.closeGraceMs;
			this.#end(statusOfClose(CloseCode.OVERLOADED, 'the node has too many streams open', retryAfterMs));
			return;
		}
		this.#detach = registry.attach({
			nodeId: peer.nodeId,
			serial: peer.serial,
			notAfterMs: peer.notAfterMs,
			close: (code, message) => this.#close(code, message),
		});
		const ctx = nodeContext(app, 'Channel', this.#stream.peer, this.#correlationId, peer);
		const relay = await this.#deps.joinChannel(ctx, peer.nodeId, hello, this);
		if (this.#state !== 'opening') {
			relay.onClosed();
			return;
		}
		this.#relay = relay;
		this.#state = 'open';
		const early = this.#early;
		this.#early = [];
		for (const frame of early) this.#pass(frame);
	}

	#pass({ message }: ChannelRequest): void {
		const isTooLarge = message.case === 'output' && message.value.data.length > DATA_BYTES_MAX;
		const fault = isTooLarge
			? `more than ${DATA_BYTES_MAX} bytes came at once`
			: message.case === 'end' || message.case === 'screen'
				? violation(message.value)
				: undefined;
		if (fault !== undefined) {
			this.#protocol(fault);
			return;
		}
		try {
			this.#relay?.onFrame(message);
		} catch (error) {
			this.#failed(error);
		}
	}

	#failed(error: unknown): void {
		if (this.#state === 'ended') return;
		const { code, reason, message } = GpuaasError.from(error);
		// Nodes may ask for channels that aren't theirs as often as they like; everything else is a fault of one of us.
		const isRefusal = error instanceof GpuaasError && !FAULTS.has(error.code);
		const level = this.#state !== 'open' && isRefusal ? 'debug' : 'warn';
		this.#deps.app.log[level]('a channel was ended', { peer: this.#stream.peer, reason, error });
		this.#end({ code, reason, message });
	}

	#protocol(message: string): void {
		this.#end(statusOfClose(CloseCode.PROTOCOL, message));
	}

	#close(code: CloseCode, message: string): void {
		this.#end(statusOfClose(code, message));
		// Whoever may not be here any more may not hold a stream open either.
		this.#stream.destroy();
	}

	#end(status: StreamStatus): void {
		if (this.#state === 'ended') return;
		this.#state = 'ended';
		this.#over();
		this.#stream.end(status);
	}

	#over(): void {
		this.#helloTimer?.cancel();
		this.#early = [];
		this.#waiting.clear();
		this.#relay?.onClosed();
		this.#relay = undefined;
	}
}
