/** The host's end of protocol.ts: connections, requests, and output under the reader's credit. */
import { createServer, type Server, type Socket } from 'node:net';
import type { LaunchRequest, TaskKey } from '../tasks/process-host.ts';
import { ProtocolError } from './framing.ts';
import { answerHello } from './greeting.ts';
import type { Host, OutputSource } from './host.ts';
import { isTaskKey } from './launch-check.ts';
import {
	attachmentsMax,
	attachWindowBytes,
	connectionsMax,
	graceMsMax,
	recordOverheadBytes,
	requestsInFlightMax,
	unsentBytesMax,
} from './limits.ts';
import { encodeJson, encodeOutputHead, type Frame, FrameDecoder } from './protocol.ts';
import { SpoolCursor, type SpoolRecord } from './spool-reader.ts';

type Params = Record<string, unknown>;

export interface ServerParts {
	readonly host: Host;
	readonly instanceId: string;
	readonly release: string;
	/** A client asked for the end of this host. */
	readonly onShutdown: (graceMs: number) => void;
	readonly log: (line: string) => void;
}

interface RetireAnswer {
	readonly retired: boolean;
}

function integer(value: unknown, max: number, name: string): number {
	if (!Number.isSafeInteger(value) || Number(value) < 0 || Number(value) > max) {
		throw new ProtocolError(`${name} must be an integer from 0 to ${max}`);
	}
	return Number(value);
}

function taskKey(params: Params): TaskKey {
	const { taskId, attempt } = params as Partial<TaskKey>;
	const key = { taskId, attempt } as Partial<TaskKey>;
	if (!isTaskKey(key)) throw new ProtocolError('taskId or attempt is malformed');
	return key;
}

function launchRequest(params: Params): LaunchRequest {
	const { stdin, ...rest } = params;
	// The rest is checked field by field in launch-check.ts.
	const request = rest as unknown as LaunchRequest;
	return typeof stdin === 'string' ? { ...request, stdin: Buffer.from(stdin, 'base64') } : request;
}

/** One reader of one task's output. */
class Attachment {
	readonly #id: number;
	readonly #source: OutputSource;
	readonly #cursor: SpoolCursor;
	readonly #send: (frame: Buffer, bytes?: Buffer) => void;
	readonly #onEnd: () => void;
	readonly #unsubscribe: () => void;
	#creditBytes = attachWindowBytes;
	#isClosed = false;

	constructor(
		id: number,
		source: OutputSource,
		fromOffset: number,
		send: (frame: Buffer, bytes?: Buffer) => void,
		onEnd: () => void,
	) {
		this.#id = id;
		this.#source = source;
		this.#cursor = new SpoolCursor(source.folder, fromOffset);
		this.#send = send;
		this.#onEnd = onEnd;
		this.#unsubscribe = source.onChange(() => this.pump());
	}

	credit(bytes: number): void {
		this.#creditBytes += bytes;
		this.pump();
	}

	close(): void {
		if (this.#isClosed) return;
		this.#isClosed = true;
		this.#unsubscribe();
		this.#cursor.close();
	}

	pump(): void {
		while (!this.#isClosed && this.#creditBytes > 0) {
			// Asked first: what is written up to the end is then in the spool when we read it.
			const hasEnded = this.#source.hasEnded();
			const record = this.#cursor.next();
			if (record !== undefined) this.#sendRecord(record);
			else if (hasEnded) this.#finish();
			else return;
		}
	}

	#sendRecord(record: SpoolRecord): void {
		if (record.kind === 'GAP') {
			this.#creditBytes -= recordOverheadBytes;
			const { offset, droppedBytes } = record;
			this.#send(encodeJson({ gap: { subscription: this.#id, offset, droppedBytes } }));
			return;
		}
		const { stream, offset, bytes } = record;
		this.#creditBytes -= bytes.length + recordOverheadBytes;
		this.#send(encodeOutputHead(this.#id, stream, offset, bytes.length), bytes);
	}

	#finish(): void {
		const total = this.#source.endOffset();
		const offset = this.#cursor.offset;
		if (offset < total) this.#sendRecord({ kind: 'GAP', offset, droppedBytes: total - offset });
		this.#send(encodeJson({ end: { subscription: this.#id, offset: total } }));
		this.close();
		this.#onEnd();
	}
}

class Connection {
	readonly #parts: ServerParts;
	readonly #socket: Socket;
	readonly #decoder = new FrameDecoder();
	readonly #attachments = new Map<number, Attachment>();
	#unsubscribe: (() => void) | undefined;
	#hasGreeted = false;
	#inFlight = 0;

	constructor(parts: ServerParts, socket: Socket) {
		this.#parts = parts;
		this.#socket = socket;
		socket.on('data', (chunk: Buffer) => this.#receive(chunk));
		socket.on('error', () => socket.destroy());
		socket.on('close', () => this.#close());
	}

	#close(): void {
		this.#unsubscribe?.();
		for (const attachment of this.#attachments.values()) attachment.close();
		this.#attachments.clear();
	}

	#receive(chunk: Buffer): void {
		try {
			for (const frame of this.#decoder.push(chunk)) this.#accept(frame);
		} catch (error) {
			this.#parts.log(`a connection was cut: ${error instanceof Error ? error.message : String(error)}`);
			this.#socket.destroy();
		}
	}

	#accept(frame: Frame): void {
		if (frame.kind !== 'json') throw new ProtocolError('a client sends no output');
		const { id, method, params } = frame.message;
		if (typeof method !== 'string' || typeof params !== 'object' || params === null) {
			throw new ProtocolError('a request needs a method and params');
		}
		if (!this.#hasGreeted && method !== 'hello') throw new ProtocolError('the first request must be hello');
		if (id === undefined) {
			this.#notice(method, params as Params);
			return;
		}
		if (this.#inFlight >= requestsInFlightMax) throw new ProtocolError(`over ${requestsInFlightMax} requests wait`);
		this.#inFlight += 1;
		void this.#answer(integer(id, Number.MAX_SAFE_INTEGER, 'id'), method, params as Params);
	}

	async #answer(id: number, method: string, params: Params): Promise<void> {
		try {
			const ok = await this.#call(method, params);
			this.#send(encodeJson({ id, ok }));
			if (method === 'retire' && (ok as RetireAnswer).retired) this.#parts.onShutdown(0);
		} catch (error) {
			const isTheirs = error instanceof ProtocolError;
			const message = error instanceof Error ? error.message : String(error);
			if (!isTheirs) this.#parts.log(`${method} failed: ${message}`);
			const [code, reason] = isTheirs ? ['INVALID_ARGUMENT', 'INVALID_REQUEST'] : ['INTERNAL', 'INTERNAL'];
			this.#send(encodeJson({ id, error: { code, reason, message } }));
		} finally {
			this.#inFlight -= 1;
		}
	}

	#call(method: string, params: Params): unknown {
		const { host } = this.#parts;
		switch (method) {
			case 'hello':
				return this.#hello(params);
			case 'launch':
				return host.launch(launchRequest(params));
			case 'cancel':
				return host.cancel(taskKey(params), integer(params.graceMs, graceMsMax, 'graceMs'));
			case 'list':
				return host.list();
			case 'result':
				return host.result(taskKey(params));
			case 'forget':
				return host.forget(taskKey(params));
			case 'allowDevices':
				host.allowDevices(params.allow as readonly string[]);
				return {};
			case 'attach':
				return this.#attach(params);
			case 'subscribe':
				this.#unsubscribe ??= host.subscribe((event) => this.#send(encodeJson({ event })));
				return {};
			case 'retire':
				return { retired: host.retire() } satisfies RetireAnswer;
			case 'shutdown':
				this.#parts.onShutdown(integer(params.graceMs, graceMsMax, 'graceMs'));
				return {};
			default:
				throw new ProtocolError(`there is no method ${method}`);
		}
	}

	#hello(params: Params): object {
		const greeting = answerHello(params.version, this.#parts);
		this.#hasGreeted = true;
		return { ...greeting, capabilities: this.#parts.host.capabilities };
	}

	#attach(params: Params): object {
		const subscription = integer(params.subscription, 0xffff_ffff, 'subscription');
		const fromOffset = integer(params.fromOffset, Number.MAX_SAFE_INTEGER, 'fromOffset');
		if (this.#attachments.has(subscription) || this.#attachments.size >= attachmentsMax) {
			throw new ProtocolError(`subscription ${subscription} is taken, or ${attachmentsMax} readers are attached`);
		}
		const source = this.#parts.host.output(taskKey(params));
		if (source === undefined) return { known: false };
		const send = (head: Buffer, bytes?: Buffer) => this.#send(head, bytes);
		const attachment = new Attachment(subscription, source, fromOffset, send, () => {
			this.#attachments.delete(subscription);
		});
		this.#attachments.set(subscription, attachment);
		attachment.pump();
		return { known: true };
	}

	#notice(method: string, params: Params): void {
		const subscription = integer(params.subscription, 0xffff_ffff, 'subscription');
		// A subscription may have ended while the notice was on its way.
		const attachment = this.#attachments.get(subscription);
		if (method === 'credit') attachment?.credit(integer(params.bytes, attachWindowBytes * 2, 'bytes'));
		else if (method === 'detach') {
			attachment?.close();
			this.#attachments.delete(subscription);
		} else throw new ProtocolError(`there is no notice ${method}`);
	}

	#send(head: Buffer, bytes?: Buffer): void {
		if (this.#socket.destroyed) return;
		this.#socket.cork();
		this.#socket.write(head);
		if (bytes !== undefined) this.#socket.write(bytes);
		this.#socket.uncork();
		if (this.#socket.writableLength > unsentBytesMax) {
			this.#parts.log('a connection was cut: it does not read what it asked for');
			this.#socket.destroy();
		}
	}
}

/** Listens on `path`; rejects when it can't. */
export function serve(path: string, parts: ServerParts): Promise<Server> {
	const server = createServer((socket) => new Connection(parts, socket));
	server.maxConnections = connectionsMax;
	return new Promise((resolve, reject) => {
		server.once('error', reject);
		server.listen(path, () => resolve(server));
	});
}
