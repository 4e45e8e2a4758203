import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { expect } from 'vitest';
import { silentLogger } from '../../../kit/log.ts';
import { VirtualClock } from '../../../kit/virtual-clock.ts';
import { ChannelHelloSchema, ChannelRequestSchema } from '../../../proto/gen/gpuaas/link/v1/channel_pb.ts';
import { Stream } from '../../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import type { TerminalRow } from '../../store/port/terminals.ts';
import type { NodeEnd } from './node-end.ts';
import { Relay } from './relay.ts';
import { Viewer, type ViewerMessage } from './viewer.ts';

type Up = NonNullable<MessageInitShape<typeof ChannelRequestSchema>['message']>;
type Down = Parameters<NodeEnd['send']>[0];

const ROW = { id: 't', tty: true, openedAtMs: null } as unknown as TerminalRow;

export class World {
	readonly clock = new VirtualClock();
	readonly down: Down[] = [];
	readonly ended: string[] = [];
	/** Streams of the node that were ended from here. */
	streamsEnded = 0;
	readonly relay: Relay;
	/** Whoever comes acknowledges all output. */
	acknowledges = true;
	/** How often the store does not take an end. */
	refusals = 0;

	constructor(row: Partial<TerminalRow> = {}) {
		this.relay = new Relay(
			{ ...ROW, ...row },
			{
				clock: this.clock,
				log: silentLogger,
				onWatched: () => {},
				onEnded: async ({ reason }) => {
					if (this.refusals > 0) {
						this.refusals -= 1;
						throw new Error('the store is away');
					}
					this.ended.push(reason);
				},
			},
		);
	}

	node(stdinOffset = 0, stdoutOffset = 0) {
		const offsets = { stdinOffset: BigInt(stdinOffset), stdoutOffset: BigInt(stdoutOffset) };
		const hello = create(ChannelHelloSchema, offsets);
		const listener = this.relay.connectNode(hello, {
			send: (message) => this.down.push(message),
			end: () => {
				this.streamsEnded += 1;
			},
		});
		return {
			say: (message: Up) => listener.onFrame(create(ChannelRequestSchema, { message }).message),
			output: (offset: number, text: string) =>
				listener.onFrame(
					create(ChannelRequestSchema, {
						message: {
							case: 'output',
							value: { stream: Stream.STDOUT, offset: BigInt(offset), data: Buffer.from(text) },
						},
					}).message,
				),
			close: () => listener.onClosed(),
		};
	}

	/** `from`: it comes back to a pipe, and has so much. */
	viewer(mode: 'control' | 'observe' = 'control', isPulled = false, from?: Parameters<Relay['attach']>[2]) {
		const { relay } = this;
		const viewer = new Viewer({
			principalId: 'p',
			name: 'Ada',
			mode,
			hasScreen: relay.terminal.tty,
			isPulled,
			acknowledges: this.acknowledges,
			now: relay.now,
			onProgress: relay.onProgress,
		});
		relay.attach(viewer, undefined, from);
		return viewer;
	}

	said(name: Down['case']) {
		return this.down.filter((message) => message.case === name);
	}
}

/** All that waits for this viewer now; what it was closed with. */
export async function waiting(viewer: Viewer): Promise<{ messages: ViewerMessage[]; failure: unknown }> {
	const messages: ViewerMessage[] = [];
	viewer.close();
	try {
		for await (const message of viewer.messages(new AbortController().signal)) messages.push(message);
		return { messages, failure: undefined };
	} catch (failure) {
		return { messages, failure };
	}
}

/** When all promises have run that can. */
export async function settled(condition: () => boolean): Promise<void> {
	for (let turn = 0; turn < 100; turn += 1) await Promise.resolve();
	expect(condition()).toBe(true);
}

export const keys = (data: Uint8Array, offset = 0, end = false) => ({
	offset: BigInt(offset),
	data: data as Uint8Array<ArrayBuffer>,
	end,
});
export const typed = (bytes: number) => new Uint8Array(bytes);
export const signal: AbortSignal = new AbortController().signal;
