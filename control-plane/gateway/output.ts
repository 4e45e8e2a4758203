import { create } from '@bufbuild/protobuf';
import type { Timer } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import { uuidv7 } from '../../kit/ids.ts';
import { SparingLog } from '../../kit/sparing-log.ts';
import {
	CloseCode,
	type OutputHello,
	type UploadOutputRequest,
	type UploadOutputResponse,
	UploadOutputResponseSchema,
} from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { OutputChunk as ChunkMessage } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import type { AcceptedStream } from '../app/enrollment/authorize-stream.ts';
import { checkChunk } from '../app/tasks/output-chunk.ts';
import type { OutputChunk } from '../app/tasks/output-store.ts';
import type { OutputUpload } from '../app/tasks/upload-output.ts';
import { statusOfClose } from './close-reason.ts';
import { nodeContext } from './context.ts';
import { violation } from './frames.ts';
import type { LinkDeps } from './link-deps.ts';
import type { ServerStream, StreamListener, StreamStatus } from './stream.ts';

/**
 * `UploadOutput` streams: the server says where to start, the agent sends chunks from there, the server acknowledges
 * what is durable. While the output store is behind, the stream isn't read, so that HTTP/2 holds back this upload and
 * nothing else. A stream counts against its node from its opening on, and must say Hello in time: one that says nothing
 * costs as much as one that uploads. Chunks that arrive during an append go into the next one, and what was appended
 * during a sync into the next sync: network, page cache and disk never wait for each other.
 */
export class OutputUploads {
	readonly #deps: LinkDeps;
	/** On a full disk every upload of the fleet fails, and comes again a second later. */
	readonly #floods: SparingLog;

	constructor(deps: LinkDeps) {
		this.#deps = deps;
		this.#floods = new SparingLog(deps.app.log, deps.app.clock);
	}

	accept(stream: ServerStream<UploadOutputResponse>): StreamListener<UploadOutputRequest> {
		const upload = new Upload(this.#deps, stream, this.#floods);
		upload.start();
		return {
			onFrame: (frame) => upload.onFrame(frame),
			onWritable: () => {},
			onEnd: () => upload.onEnd(),
			onClosed: () => upload.onClosed(),
		};
	}
}

class Upload {
	readonly #deps: LinkDeps;
	readonly #stream: ServerStream<UploadOutputResponse>;
	readonly #floods: SparingLog;
	#state: 'waiting' | 'opening' | 'open' | 'ended' = 'waiting';
	#output: OutputUpload | undefined;
	/** What came before the node was known. */
	#hello: OutputHello | undefined;
	#peer: AcceptedStream | undefined;
	readonly #correlationId: string;
	#detach: (() => void) | undefined;
	/** Of the Hello, then of the end of a stream that said none. */
	#timer: Timer | undefined;
	#chunks: OutputChunk[] = [];
	#bytes = 0;
	#paused = false;
	#appending = false;
	#syncing = false;
	/** Appended since the last sync began. */
	#unsynced = false;
	#storedOffset = 0n;
	/** Where the newest chunk ended. */
	#takenOffset = 0;
	/** Set once the agent has said that nothing more comes. */
	#endOffset: bigint | undefined;

	constructor(deps: LinkDeps, stream: ServerStream<UploadOutputResponse>, floods: SparingLog) {
		this.#deps = deps;
		this.#stream = stream;
		this.#floods = floods;
		this.#correlationId = uuidv7(deps.app.clock.now(), deps.app.rng);
	}

	start(): void {
		const { clock } = this.#deps.app;
		const { helloTimeoutMs, closeGraceMs } = this.#deps.limits;
		this.#timer = clock.setTimer(() => {
			this.#protocol('no Hello came');
			this.#timer = clock.setTimer(() => this.#stream.destroy(), closeGraceMs);
		}, helloTimeoutMs);
		this.#admit().catch((error: unknown) => this.#failed(error));
	}

	onFrame({ message }: UploadOutputRequest): void {
		if (this.#state === 'ended') return;
		if (message.case === 'hello') this.#takeHello(message.value);
		else if (this.#state !== 'open' || this.#endOffset !== undefined)
			this.#protocol('chunks come between the start and the end');
		else if (message.case === 'chunk') this.#take(message.value);
		else if (message.case === 'end') {
			this.#endOffset = message.value.nextOffset;
			void this.#append();
		} else this.#protocol('a message of an unknown kind came');
	}

	onEnd(): void {
		// The agent gives up for now: what is stored stays, and it asks again where to start.
		if (this.#state !== 'ended' && this.#endOffset === undefined) this.#end({ code: 'OK', reason: '', message: '' });
	}

	onClosed(): void {
		this.#state = 'ended';
		this.#timer?.cancel();
		this.#chunks = [];
		this.#detach?.();
		this.#detach = undefined;
	}

	#takeHello(hello: OutputHello): void {
		const fault = this.#state === 'waiting' ? violation(hello) : 'one Hello begins an upload';
		if (fault !== undefined) {
			this.#protocol(fault);
			return;
		}
		this.#state = 'opening';
		this.#timer?.cancel();
		this.#hello = hello;
		this.#open().catch((error: unknown) => this.#failed(error));
	}

	/** Whose stream it is, and whether that node may have one more. */
	async #admit(): Promise<void> {
		const { app, registry, limits } = this.#deps;
		const { peer: address, leafDer } = this.#stream;
		const anonymous = nodeContext(app, 'UploadOutput', address, this.#correlationId, undefined);
		const peer = await this.#deps.authorizeStream(anonymous, leafDer);
		if (this.#state === 'ended') return;
		if (peer.kind === 'refused') {
			this.#end(statusOfClose(peer.closeCode, peer.message, undefined, peer.reason));
			return;
		}
		if (registry.attachedCount(peer.nodeId) >= limits.uploadsPerNodeMax) {
			const message = 'this node has too many uploads at once; send them one after the other';
			this.#end({ code: 'RESOURCE_EXHAUSTED', reason: 'RATE_LIMITED', message, retryAfterMs: 1000 });
			return;
		}
		this.#detach = registry.attach({
			nodeId: peer.nodeId,
			serial: peer.serial,
			notAfterMs: peer.notAfterMs,
			close: (code, message) => this.#close(code, message),
		});
		this.#peer = peer;
		await this.#open();
	}

	/** Once both are there: the node and its Hello. */
	async #open(): Promise<void> {
		const { app } = this.#deps;
		const hello = this.#hello;
		const peer = this.#peer;
		if (this.#state !== 'opening' || hello === undefined || peer === undefined) return;
		const ctx = nodeContext(app, 'UploadOutput', this.#stream.peer, this.#correlationId, peer);
		const output = await this.#deps.openUpload(ctx, peer.nodeId, hello);
		if (this.#state !== 'opening') return;
		this.#output = output;
		this.#storedOffset = output.storedOffset;
		this.#state = 'open';
		this.#send(output.complete);
		if (output.complete) this.#end({ code: 'OK', reason: '', message: '' });
	}

	#take(message: ChunkMessage): void {
		const checked = checkChunk(message, this.#takenOffset);
		if (checked.kind === 'invalid') {
			this.#protocol(checked.message);
			return;
		}
		const { chunk } = checked;
		this.#takenOffset = chunk.offset + chunk.data.length;
		this.#chunks.push(chunk);
		this.#bytes += message.data.length;
		if (!this.#paused && this.#bytes >= this.#deps.limits.uploadBytesQueuedMax) {
			this.#paused = true;
			this.#stream.pause();
		}
		void this.#append();
	}

	async #append(): Promise<void> {
		const output = this.#output;
		if (this.#appending || output === undefined) return;
		this.#appending = true;
		try {
			while (this.#chunks.length > 0 && this.#state === 'open') {
				const chunks = this.#chunks;
				this.#chunks = [];
				this.#bytes = 0;
				// While these are written the next ones come in: else disk and network would wait for each other.
				if (this.#paused) {
					this.#paused = false;
					this.#stream.resume();
				}
				await output.append(chunks);
				this.#unsynced = true;
				void this.#sync(output);
			}
		} catch (error) {
			this.#failed(error);
		} finally {
			this.#appending = false;
		}
		// With nothing on its way to say so later.
		if (!this.#syncing) void this.#sync(output);
	}

	/** Acknowledges what is durable; the end of the output after the last of it. */
	async #sync(output: OutputUpload): Promise<void> {
		if (this.#syncing) return;
		this.#syncing = true;
		try {
			while (this.#unsynced && this.#state === 'open') {
				this.#unsynced = false;
				this.#storedOffset = await output.sync();
				if (this.#state === 'open') this.#send(false);
			}
			if (this.#endOffset === undefined || this.#appending || this.#chunks.length > 0) return;
			if (this.#state !== 'open') return;
			const complete = await output.end(this.#endOffset);
			if (this.#state !== 'open') return;
			this.#send(complete);
			this.#end({ code: 'OK', reason: '', message: '' });
		} catch (error) {
			this.#failed(error);
		} finally {
			this.#syncing = false;
		}
	}

	#send(complete: boolean): void {
		// At most one acknowledgement an append: a peer that reads none is held back by its own window.
		this.#stream.send(create(UploadOutputResponseSchema, { storedOffset: this.#storedOffset, complete }));
	}

	#failed(error: unknown): void {
		if (this.#state === 'ended') return;
		this.#floods.warn('upload failed', { peer: this.#stream.peer, node: this.#peer?.nodeId, error });
		const { code, reason, message } = GpuaasError.from(error);
		this.#end({ code, reason, message, retryAfterMs: 1000 });
	}

	#protocol(message: string): void {
		this.#end(statusOfClose(CloseCode.PROTOCOL, message));
	}

	#close(code: CloseCode, message: string): void {
		this.#end(statusOfClose(code, message));
		// Whoever may not upload any more may not hold a stream open either.
		this.#stream.destroy();
	}

	#end(status: StreamStatus): void {
		if (this.#state === 'ended') return;
		this.#state = 'ended';
		this.#timer?.cancel();
		this.#chunks = [];
		this.#detach?.();
		this.#detach = undefined;
		this.#stream.end(status);
		this.#stream.resume();
	}
}
