import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
	type ChannelRequest,
	ChannelRequestSchema,
	type ChannelResponse,
} from '../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { Stream } from '../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import type { ClientStream, LinkConnection, StreamEnd } from '../control/link-transport.ts';
import type {
	Attachment,
	ChannelListener,
	ChannelOutcome,
	ChannelSize,
	ChannelStatus,
	PtyHost,
} from '../pty-host/pty-host.ts';

/**
 * One channel on one stream of the link: what the pty host says goes up, what the gateway says goes down. It holds no
 * bytes: windows at the pty host bound what goes up, those of the relay what comes down. It ends with its stream; the
 * channel goes on, and terminals.ts opens the next stream when there is a connection again.
 */
export interface ChannelStreamParts {
	readonly connection: LinkConnection;
	readonly generation: number;
	readonly status: ChannelStatus;
	/** Undefined when nothing was started: the end is all there is. */
	readonly host: PtyHost | undefined;
	readonly onResized: (size: ChannelSize) => void;
	/** The control plane has the end: nobody needs the channel any more. */
	readonly onForget: () => void;
	readonly onClosed: (end: StreamEnd) => void;
}

type Up = NonNullable<MessageInitShape<typeof ChannelRequestSchema>['message']>;

const STREAM = { stdin: Stream.STDIN, stdout: Stream.STDOUT, stderr: Stream.STDERR } as const;

export class ChannelStream {
	readonly #parts: ChannelStreamParts;
	readonly #stream: ClientStream<ChannelRequest>;
	#attachment: Attachment | undefined;
	/** What came while the pty host was asked: it must not be passed over. */
	#early: ChannelResponse[] | undefined;
	#isOver = false;
	/** False: what is sent waits at the stream for its reader. */
	#isWritable = true;

	constructor(parts: ChannelStreamParts) {
		this.#parts = parts;
		this.#stream = parts.connection.channel({
			onFrame: (frame) => this.#onFrame(frame),
			onWritable: () => {
				this.#isWritable = true;
			},
			onClosed: (end) => {
				this.#isOver = true;
				this.#attachment?.detach();
				parts.onClosed(end);
			},
		});
		const { id, user, offsets, outcome, size } = parts.status;
		this.#send({
			case: 'hello',
			value: {
				channelId: id,
				generation: parts.generation,
				stdinOffset: BigInt(offsets.stdin),
				stdoutOffset: BigInt(offsets.stdout),
				stderrOffset: BigInt(offsets.stderr),
				user,
				...(size === undefined ? {} : { size: { ...size } }),
			},
		});
		if (parts.host === undefined && outcome !== undefined) this.#end(outcome);
	}

	/** The channel goes on without this stream. */
	cancel(): void {
		this.#stream.cancel();
	}

	#onFrame(frame: ChannelResponse): void {
		if (this.#early !== undefined) this.#early.push(frame);
		else this.#handle(frame);
	}

	#handle({ message }: ChannelResponse): void {
		const attachment = this.#attachment;
		switch (message.case) {
			case 'accepted':
				void this.#attach(Number(message.value.stdoutOffset), Number(message.value.stderrOffset));
				return;
			case 'input':
				attachment?.write(Number(message.value.offset), message.value.data, message.value.end);
				return;
			case 'ack':
				attachment?.ack(message.value.stream === Stream.STDERR ? 'stderr' : 'stdout', Number(message.value.offset));
				return;
			case 'resize':
				this.#resize({ columns: message.value.columns, rows: message.value.rows });
				return;
			case 'screen':
				attachment?.requestScreen();
				return;
			case 'signal':
				attachment?.signal(`SIG${message.value.name}` as NodeJS.Signals);
				return;
			case 'close':
				void this.#parts.host?.end(this.#parts.status.id, message.value.reason, message.value.message).catch(() => {});
				return;
			case 'forget':
				this.#parts.onForget();
				this.#stream.end();
		}
	}

	#resize(size: ChannelSize): void {
		this.#attachment?.resize(size);
		this.#parts.onResized(size);
	}

	async #attach(stdout: number, stderr: number): Promise<void> {
		const { host, status } = this.#parts;
		// The control plane asks again when somebody goes on from an earlier offset.
		this.#attachment?.detach();
		this.#attachment = undefined;
		this.#early = [];
		try {
			const attachment = await host?.attach(status.id, { stdout, stderr }, this.#listener());
			if (this.#isOver) attachment?.detach();
			else if (attachment !== undefined) this.#attachment = attachment;
			else if (status.outcome !== undefined) this.#end(status.outcome);
			// The host doesn't have it any more: whoever opens the next stream looks first.
			else this.#stream.cancel();
		} catch {
			// The host is gone: the next one tells how the channel ended.
			this.#stream.cancel();
		}
		const early = this.#early;
		this.#early = undefined;
		for (const frame of early) this.#onFrame(frame);
	}

	#listener(): ChannelListener {
		return {
			onOutput: (stream, offset, data, end) =>
				this.#send({
					case: 'output',
					// What waits may wait for long, and must not hold all that was read with it (frame-reader.ts).
					value: {
						stream: STREAM[stream],
						offset: BigInt(offset),
						data: plain(this.#isWritable ? data : Buffer.from(data)),
						end,
					},
				}),
			onStdinAck: (offset) => this.#send({ case: 'ack', value: { stream: Stream.STDIN, offset: BigInt(offset) } }),
			onScreen: (offset, size, data) =>
				this.#send({ case: 'screen', value: { offset: BigInt(offset), size: { ...size }, data: plain(data) } }),
			onEnd: (outcome) => this.#end(outcome),
		};
	}

	#end(outcome: ChannelOutcome): void {
		const { exitCode, signal, reason, message } = outcome;
		this.#send({
			case: 'end',
			value: {
				reason,
				message,
				...(exitCode === undefined ? {} : { exitCode }),
				...(signal === undefined ? {} : { signal }),
			},
		});
	}

	#send(message: Up): void {
		if (!this.#isOver) this.#isWritable = this.#stream.send(create(ChannelRequestSchema, { message }));
	}
}

/** The generated type wants a view on a plain ArrayBuffer. It may be written out later: whoever reads frames writes no byte twice. */
function plain(bytes: Buffer): Uint8Array<ArrayBuffer> {
	return bytes as unknown as Uint8Array<ArrayBuffer>;
}
