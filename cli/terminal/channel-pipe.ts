import type { BytePipe } from '../../channel/pipe.ts';
import { GpuaasError } from '../../kit/error.ts';
import { BoundedQueue } from '../../kit/queue.ts';
import type { ChannelEnd } from '../../proto/gen/gpuaas/terminals/v1/channel_pb.ts';
import { AttachMode, type Terminal, TerminalService } from '../../proto/gen/gpuaas/terminals/v1/terminals_pb.ts';
import type { Api } from '../client.ts';
import type { Io } from '../io.ts';
import { ChannelClient } from './channel-client.ts';
import { tellOutages } from './outage.ts';

/**
 * The standard streams of a program on a node as a pipe, over any number of connections: what broke is attached to again
 * and nothing is lost or repeated. Ends with the program; an end that isn't the program's own is an error.
 */
export interface ChannelPipe extends AsyncDisposable {
	readonly pipe: BytePipe;
	/** What the program said on standard error, bounded. */
	complaint(): string;
	/** Resolves when the channel is over, however. */
	readonly ended: Promise<void>;
}

/** Chunks that came and weren't taken: the node sends no more before they are. */
const QUEUE_ITEMS = 8;
const COMPLAINT_CHARACTERS_MAX = 4096;
/** From the end of our input to that of the program. */
const END_WAIT_MS = 5000;

export function openChannelPipe(io: Io, api: Api, { id, nodeName }: Pick<Terminal, 'id' | 'nodeName'>): ChannelPipe {
	const incoming = new BoundedQueue<Uint8Array>(QUEUE_ITEMS);
	const leaving = new AbortController();
	let complaint = '';
	const client = new ChannelClient(
		io,
		api.client(TerminalService),
		{ terminalId: id, mode: AttachMode.CONTROL, tty: false },
		{
			async output(stream, data) {
				if (stream === 'stdout') await incoming.put(data);
				else complaint = (complaint + Buffer.from(data).toString('utf8')).slice(-COMPLAINT_CHARACTERS_MAX);
			},
			...tellOutages(io, nodeName, false),
		},
	);
	const ended = client.run(leaving.signal).then(
		(result) => incoming.close(result.kind === 'ended' ? failureOf(result.end) : undefined),
		(error: unknown) => incoming.close(error),
	);
	return {
		pipe: { incoming, write: (bytes) => client.write(bytes) },
		complaint: () => complaint.trim(),
		ended,
		async [Symbol.asyncDispose]() {
			// Over already, it has no input to end.
			client.write(new Uint8Array(), true).catch(() => {});
			// Nobody reads it any more; a program that writes on would never see the end of its input.
			incoming.close();
			const timer = io.clock.setTimer(() => leaving.abort(), END_WAIT_MS);
			await ended;
			timer.cancel();
		},
	};
}

function failureOf({ reason, message }: ChannelEnd): GpuaasError | undefined {
	if (reason === 'TERMINAL_EXITED') return undefined;
	return new GpuaasError({ code: 'FAILED_PRECONDITION', reason, message: message === '' ? reason : message });
}
