import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { type Clock, sleep } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import type { Rng } from '../../kit/ids.ts';
import type { Logger } from '../../kit/log.ts';
import { Backoff } from '../../kit/retry.ts';
import {
	type UploadOutputRequest,
	UploadOutputRequestSchema,
	type UploadOutputResponse,
} from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { OutputStream } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { OutputPiece, OutputSource } from './command-sink.ts';
import type { ClientStream, LinkConnection, StreamEnd } from './link-transport.ts';

/**
 * Brings the output of attempts to the control plane: a bounded number of upload streams at once on the bulk connection, each from
 * where the server is. An upload that breaks is tried again from there; nothing is kept here, since the spool of the
 * process host is the memory. Started by the agent's main beside the link.
 */
export interface UploaderLimits {
	/**
	 * Streams at once. A task that runs holds one until it ends, so this is also how many running tasks are seen live;
	 * the output of others waits in the spool. At most half of what the server takes of a node.
	 */
	readonly parallelMax: number;
	/**
	 * Sent and not acknowledged, of one upload: what the contract allows. Several times what the server takes at once, so
	 * that the next part is on the way while it writes one.
	 */
	readonly unackedBytesMax: number;
	readonly backoffMaxMs: number;
}

export const UPLOADER_LIMITS_DEFAULT: UploaderLimits = Object.freeze({
	parallelMax: 64,
	unackedBytesMax: 4 * 1024 * 1024,
	backoffMaxMs: 20_000,
});

const UNWANTED: ReadonlySet<string> = new Set(['TASK_NOT_FOUND', 'TASK_ENDED', 'OUTPUT_TOO_LARGE']);

type Pending = ReturnType<OutputSource['pending']>[number];
type Up = NonNullable<MessageInitShape<typeof UploadOutputRequestSchema>['message']>;

export class OutputUploader {
	readonly #clock: Clock;
	readonly #rng: Rng;
	readonly #log: Logger;
	readonly #source: OutputSource;
	readonly #limits: UploaderLimits;
	readonly #running = new Set<string>();
	#connection: LinkConnection | undefined;
	#signal: AbortSignal | undefined;

	constructor(
		deps: { readonly clock: Clock; readonly rng: Rng; readonly log: Logger; readonly output: OutputSource },
		limits: Partial<UploaderLimits> = {},
	) {
		this.#clock = deps.clock;
		this.#rng = deps.rng;
		this.#log = deps.log;
		this.#source = deps.output;
		this.#limits = { ...UPLOADER_LIMITS_DEFAULT, ...limits };
	}

	/** Uploads from now on until `signal` aborts. */
	start(signal: AbortSignal): void {
		this.#signal = signal;
		this.#source.onPending(() => this.#fill());
		this.#fill();
	}

	/** The connection to use from now on: give it to `Control.onConnection`. Running uploads end with theirs. */
	setConnection(connection: LinkConnection | undefined): void {
		this.#connection = connection;
		this.#fill();
	}

	#fill(): void {
		const signal = this.#signal;
		if (signal === undefined || signal.aborted || this.#connection === undefined) return;
		for (const pending of this.#source.pending()) {
			if (this.#running.size >= this.#limits.parallelMax) return;
			const key = `${pending.taskId}/${pending.attempt}`;
			if (this.#running.has(key)) continue;
			this.#running.add(key);
			void this.#bring(pending, signal).finally(() => {
				this.#running.delete(key);
				this.#fill();
			});
		}
	}

	/** Until the server has all of it, the attempt is no longer pending, or there is no connection. */
	async #bring(pending: Pending, signal: AbortSignal): Promise<void> {
		const backoff = new Backoff({ baseMs: 500, maxMs: this.#limits.backoffMaxMs, floorMs: 100 }, this.#rng);
		while (!signal.aborted && this.#connection !== undefined && this.#isPending(pending)) {
			const upload = new Upload(this.#connection, this.#source, pending, this.#limits.unackedBytesMax, signal);
			try {
				if (await upload.run()) {
					this.#source.stored(pending.taskId, pending.attempt);
					return;
				}
			} catch (error) {
				if (error instanceof GpuaasError && UNWANTED.has(error.reason)) {
					// Nobody will ever want it: the task is gone, a newer attempt has replaced this one, or it is more than was asked for.
					this.#source.stored(pending.taskId, pending.attempt);
					return;
				}
				this.#log.debug('upload interrupted', { task: pending.taskId, error });
			}
			const retryAfterMs = upload.retryAfterMs;
			await sleep(this.#clock, backoff.nextMs(retryAfterMs), signal);
		}
	}

	#isPending({ taskId, attempt }: Pending): boolean {
		return this.#source.pending().some((other) => other.taskId === taskId && other.attempt === attempt);
	}
}

/** One stream. */
class Upload {
	readonly #source: OutputSource;
	readonly #pending: Pending;
	readonly #unackedBytesMax: number;
	readonly #stream: ClientStream<UploadOutputRequest>;
	readonly #abort = new AbortController();
	readonly #unlink: () => void;
	/** Chunks on the way, in order: where each ends, and its bytes. */
	#unacked: { readonly endOffset: bigint; readonly bytes: number }[] = [];
	#unackedBytes = 0;
	#writable = true;
	#storedOffset: bigint | undefined;
	#complete = false;
	#ended: StreamEnd | undefined;
	#wake: () => void = () => {};

	constructor(
		connection: LinkConnection,
		source: OutputSource,
		pending: Pending,
		unackedBytesMax: number,
		signal: AbortSignal,
	) {
		this.#source = source;
		this.#pending = pending;
		this.#unackedBytesMax = unackedBytesMax;
		this.#stream = connection.uploadOutput({
			onFrame: (frame) => this.#onAck(frame),
			onWritable: () => {
				this.#writable = true;
				this.#wake();
			},
			onClosed: (end) => {
				this.#ended = end;
				this.#abort.abort();
				this.#wake();
			},
		});
		const cancel = () => this.#stream.cancel();
		signal.addEventListener('abort', cancel, { once: true });
		this.#unlink = () => signal.removeEventListener('abort', cancel);
		if (signal.aborted) cancel();
	}

	get retryAfterMs(): number {
		return this.#ended?.retryAfterMs ?? 0;
	}

	/** True when the server has the whole output; false when it wants to be asked again; throws when it broke. */
	async run(): Promise<boolean> {
		const { taskId, attempt, fencingToken } = this.#pending;
		try {
			this.#send({ case: 'hello', value: { taskId, attempt, fencingToken } });
			await this.#until(() => this.#storedOffset !== undefined);
			if (this.#complete) return true;
			let nextOffset = this.#storedOffset ?? 0n;
			for await (const piece of this.#source.read(taskId, attempt, nextOffset, this.#abort.signal)) {
				await this.#until(() => this.#writable && this.#unackedBytes < this.#unackedBytesMax);
				nextOffset = piece.offset + BigInt(piece.data.length);
				this.#chunk(piece, nextOffset);
			}
			this.#check();
			this.#send({ case: 'end', value: { nextOffset } });
			this.#stream.end();
			await this.#until(() => this.#complete || this.#ended !== undefined);
			return this.#complete;
		} finally {
			this.#unlink();
			if (this.#ended === undefined) this.#stream.cancel();
		}
	}

	#chunk({ offset, stream, data, droppedBytes }: OutputPiece, endOffset: bigint): void {
		this.#unacked.push({ endOffset, bytes: data.length });
		this.#unackedBytes += data.length;
		const streamOf = stream === 'stderr' ? OutputStream.STDERR : OutputStream.STDOUT;
		this.#send({ case: 'chunk', value: { offset, stream: streamOf, data, droppedBytes } });
	}

	#onAck({ storedOffset, complete }: UploadOutputResponse): void {
		this.#storedOffset = storedOffset;
		this.#complete ||= complete;
		let count = 0;
		for (const { endOffset, bytes } of this.#unacked) {
			if (endOffset > storedOffset) break;
			this.#unackedBytes -= bytes;
			count += 1;
		}
		if (count > 0) this.#unacked = this.#unacked.slice(count);
		this.#wake();
	}

	#send(message: Up): void {
		this.#writable = this.#stream.send(create(UploadOutputRequestSchema, { message }));
	}

	/** Throws when the stream ended first. */
	async #until(isReached: () => boolean): Promise<void> {
		while (!isReached()) {
			this.#check();
			await new Promise<void>((resolve) => {
				this.#wake = resolve;
			});
		}
	}

	#check(): void {
		if (this.#ended === undefined || this.#complete) return;
		const { code, reason, message } = this.#ended;
		throw new GpuaasError({
			code: 'UNAVAILABLE',
			reason: reason === '' ? 'UNREACHABLE' : reason,
			message: `the upload ended with ${code}: ${message}; it goes on from what is stored`,
		});
	}
}
