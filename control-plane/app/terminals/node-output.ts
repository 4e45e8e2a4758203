import { GpuaasError } from '../../../kit/error.ts';
import type { ChannelHello } from '../../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { Stream, type StreamData } from '../../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import { frameBytesMax, pipeWindowBytes, ttyWindowBytes } from './limits.ts';
import type { Output } from './viewer.ts';

/**
 * What the node has sent of each stream and how much more it may send now. The node is a stranger: whoever sends more
 * than its window, or a screen that nobody wants, breaks the protocol, so that it can't fill our memory.
 */
interface Progress {
	received: number;
	acked: number;
	/** The node keeps nothing below: its window begins here. */
	from: number;
}

export class NodeOutput {
	readonly #hasScreen: boolean;
	readonly #streams: Readonly<Record<Output, Progress>> = {
		stdout: { received: 0, acked: 0, from: 0 },
		stderr: { received: 0, acked: 0, from: 0 },
	};
	/** No stream was here: what came before it was for another relay, of a control plane that stopped. */
	#isNew = true;
	#isScreenAsked = false;
	/** Screens that may still come: one answer may stand for two questions. */
	#screensDue = 0;

	constructor(hasScreen: boolean) {
		this.#hasScreen = hasScreen;
	}

	received(stream: Output): number {
		return this.#streams[stream].received;
	}

	acked(stream: Output): number {
		return this.#streams[stream].acked;
	}

	/** Whoever had it before has its output up to here: what comes later is missing until it, or its screen, comes. */
	goOnAt(offset: number): void {
		if (!this.#isNew) return;
		this.#streams.stdout.received = offset;
		this.#isNew = false;
	}

	/** A new stream. What a terminal let go meanwhile it replaces by its screen, which says where the gap is. */
	connect(hello: ChannelHello): void {
		this.#isScreenAsked = false;
		this.#screensDue = 0;
		for (const [name, first] of [
			['stdout', Number(hello.stdoutOffset)],
			['stderr', Number(hello.stderrOffset)],
		] as const) {
			const progress = this.#streams[name];
			// Of a pipe nothing is let go: only to a relay that knows nothing yet the node may say where it is.
			if (this.#hasScreen || this.#isNew) progress.from = Math.max(progress.from, first);
			if (this.#isNew) progress.received = Math.max(progress.received, first);
		}
		this.#isNew = false;
	}

	/** Somebody goes on with a pipe from here, or from where the node still has it: that is answered. */
	startAt(stream: Output, offset: number): number {
		const progress = this.#streams[stream];
		const start = Math.max(offset, progress.acked, progress.from);
		progress.received = start;
		progress.acked = start;
		progress.from = start;
		return start;
	}

	/** From then on it may send; first the screen, where it can't send what is missing. */
	accept(): void {
		if (this.#hasScreen) this.#screensDue = 1;
	}

	/** What is new of it. Throws at a gap, and past the window. */
	take({ stream, offset, data }: StreamData): {
		readonly stream: Output;
		readonly offset: number;
		readonly fresh: Uint8Array<ArrayBuffer>;
	} {
		const name = stream === Stream.STDERR ? 'stderr' : 'stdout';
		const progress = this.#streams[name];
		const { received } = progress;
		if (Number(offset) > received) throw protocol(`output has a gap at ${received}`);
		const fresh = data.subarray(received - Number(offset)) as Uint8Array<ArrayBuffer>;
		const windowBytes = (this.#hasScreen ? ttyWindowBytes : pipeWindowBytes) + frameBytesMax;
		if (received + fresh.length - Math.max(progress.acked, progress.from) > windowBytes)
			throw protocol(`more than ${windowBytes} bytes of ${name} came without an acknowledgement`);
		progress.received = received + fresh.length;
		return { stream: name, offset: received, fresh };
	}

	/** Where the gap began that this screen stands for; undefined without one. Throws when nobody asked. */
	takeScreen(offset: number): number | undefined {
		if (this.#screensDue === 0) throw protocol('a screen came that nobody asked for');
		this.#screensDue -= 1;
		this.#isScreenAsked = false;
		const { stdout } = this.#streams;
		if (offset <= stdout.received) return undefined;
		const gapFrom = stdout.received;
		stdout.received = offset;
		stdout.from = Math.max(stdout.from, offset);
		return gapFrom;
	}

	/** False while one is on its way. */
	askScreen(): boolean {
		if (this.#isScreenAsked) return false;
		this.#isScreenAsked = true;
		this.#screensDue += 1;
		return true;
	}

	/** Whether the node doesn't know that yet. */
	ack(stream: Output, offset: number): boolean {
		const progress = this.#streams[stream];
		if (offset <= progress.acked) return false;
		progress.acked = offset;
		return true;
	}
}

export function protocol(message: string): GpuaasError {
	return new GpuaasError({ code: 'INVALID_ARGUMENT', reason: 'INVALID_REQUEST', message });
}
