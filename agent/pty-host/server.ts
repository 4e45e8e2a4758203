/** The host's end of protocol.ts. */
import { createServer, type Server, type Socket } from 'node:net';
import { buffersCame } from '../../kit/young-garbage.ts';
import { ProtocolError, encodeJson as toFrame } from '../process-host/framing.ts';
import { answerHello } from '../process-host/greeting.ts';
import type { PtyHostRegistry } from './host.ts';
import type { HostChannel } from './host-channel.ts';
import * as bounds from './limits.ts';
import { encodeAck, encodeDataHead, encodeScreenHead, type Frame, FrameDecoder } from './protocol.ts';
import type { ChannelListener, OpenRequest } from './pty-host.ts';

export interface ServerParts {
	readonly host: PtyHostRegistry;
	readonly instanceId: string;
	readonly release: string;
	readonly onShutdown: () => void;
	readonly log: (line: string) => void;
}

type Params = Record<string, unknown>;

interface Attached {
	readonly channel: HostChannel;
	readonly listener: ChannelListener;
}

function integer(value: unknown, max: number, name: string, min = 0): number {
	if (!Number.isSafeInteger(value) || Number(value) < min || Number(value) > max)
		throw new ProtocolError(`${name} must be an integer from ${min} to ${max}`);
	return Number(value);
}

function text(value: unknown, name: string): string {
	if (typeof value !== 'string' || value.length > 4096) throw new ProtocolError(`${name} must be a text`);
	return value;
}

const SIGNALS: ReadonlySet<string> = new Set(
	['INT', 'TERM', 'HUP', 'QUIT', 'USR1', 'USR2', 'KILL'].map((s) => `SIG${s}`),
);

function channelFrame(channel: HostChannel, frame: Exclude<Frame, { readonly kind: 'json' }>): void {
	if (frame.kind === 'data') {
		if (frame.stream !== 'stdin') throw new ProtocolError('a client sends no output');
		channel.write(frame.offset, frame.bytes, frame.end);
	} else if (frame.kind === 'ack') {
		if (frame.stream === 'stdin') throw new ProtocolError('a client acknowledges no stdin');
		channel.ack(frame.stream, frame.offset);
	} else throw new ProtocolError('a client sends no screen');
}

function channelNotice(channel: HostChannel, method: string, params: Params): void {
	if (method === 'resize') {
		const columns = integer(params.columns, bounds.columnsMax, 'columns', 1);
		channel.resize({ columns, rows: integer(params.rows, bounds.rowsMax, 'rows', 1) });
	} else if (method === 'screen') channel.requestScreen();
	else if (method === 'signal') {
		const name = text(params.name, 'name');
		if (!SIGNALS.has(name)) throw new ProtocolError(`there is no signal ${name}`);
		channel.signal(name as NodeJS.Signals);
	} else throw new ProtocolError(`there is no notice ${method}`);
}

class Connection {
	readonly #parts: ServerParts;
	readonly #socket: Socket;
	readonly #decoder = new FrameDecoder();
	readonly #attached = new Map<number, Attached>();
	#hasGreeted = false;
	#inFlight = 0;

	constructor(parts: ServerParts, socket: Socket) {
		this.#parts = parts;
		this.#socket = socket;
		socket.on('data', (chunk: Buffer) => this.#receive(chunk));
		socket.on('error', () => socket.destroy());
		socket.on('close', () => {
			for (const { channel, listener } of this.#attached.values()) channel.detach(listener);
			this.#attached.clear();
		});
	}

	#receive(chunk: Buffer): void {
		buffersCame(chunk.length);
		try {
			for (const frame of this.#decoder.push(chunk)) this.#accept(frame);
		} catch (error) {
			this.#parts.log(`a connection was cut: ${error instanceof Error ? error.message : String(error)}`);
			this.#socket.destroy();
		}
	}

	#accept(frame: Frame): void {
		if (frame.kind === 'json') {
			this.#message(frame.message);
			return;
		}
		// A channel that was detached, or forgotten, may have had frames on the way.
		const channel = this.#attached.get(frame.channel)?.channel;
		if (channel !== undefined) this.#within(channel, () => channelFrame(channel, frame));
	}

	/** What breaks the rules on one channel ends that channel: the others of its connection are other people's. */
	#within(channel: HostChannel, act: () => void): void {
		try {
			act();
		} catch (error) {
			if (!(error instanceof ProtocolError)) throw error;
			this.#parts.log(`channel ${channel.status.id} was ended: ${error.message}`);
			channel.end('CHANNEL_PROTOCOL', error.message);
		}
	}

	#message({ id, method, params }: Record<string, unknown>): void {
		if (typeof method !== 'string' || typeof params !== 'object' || params === null)
			throw new ProtocolError('a request needs a method and params');
		if (!this.#hasGreeted && method !== 'hello') throw new ProtocolError('the first request must be hello');
		if (id === undefined) {
			this.#notice(method, params as Params);
			return;
		}
		if (this.#inFlight >= bounds.requestsInFlightMax) throw new ProtocolError('too many requests wait');
		this.#inFlight += 1;
		void this.#answer(integer(id, Number.MAX_SAFE_INTEGER, 'id'), method, params as Params);
	}

	async #answer(id: number, method: string, params: Params): Promise<void> {
		try {
			// Answered before what it causes: an attached channel's first frames come after.
			const ok = await this.#call(method, params);
			this.#json({ id, ok: ok.answer });
			ok.afterwards?.();
		} catch (error) {
			const isTheirs = error instanceof ProtocolError;
			const message = error instanceof Error ? error.message : String(error);
			if (!isTheirs) this.#parts.log(`${method} failed: ${message}`);
			const [code, reason] = isTheirs ? ['INVALID_ARGUMENT', 'INVALID_REQUEST'] : ['INTERNAL', 'INTERNAL'];
			this.#json({ id, error: { code, reason, message } });
		} finally {
			this.#inFlight -= 1;
		}
	}

	async #call(method: string, params: Params): Promise<{ readonly answer: unknown; readonly afterwards?: () => void }> {
		const { host, onShutdown } = this.#parts;
		switch (method) {
			case 'hello':
				return { answer: this.#hello(params) };
			case 'open':
				// Checked field by field in host.ts.
				return { answer: await host.open(params as unknown as OpenRequest) };
			case 'list':
				return { answer: host.list() };
			case 'attach':
				return this.#attach(params);
			case 'end':
				host.end(text(params.channelId, 'channelId'), text(params.reason, 'reason'), text(params.message, 'message'));
				return { answer: {} };
			case 'forget':
				host.forget(text(params.channelId, 'channelId'));
				return { answer: {} };
			case 'allowDevices':
				host.allowDevices(params.allow as readonly string[]);
				return { answer: {} };
			case 'ping':
				return { answer: {} };
			case 'retire': {
				const retired = host.retire();
				return { answer: { retired }, ...(retired && { afterwards: onShutdown }) };
			}
			case 'shutdown':
				return { answer: {}, afterwards: onShutdown };
			default:
				throw new ProtocolError(`there is no method ${method}`);
		}
	}

	#hello({ version }: Params): object {
		const greeting = answerHello(version, this.#parts);
		this.#hasGreeted = true;
		return { ...greeting, devices: this.#parts.host.devices };
	}

	#attach(params: Params): { readonly answer: unknown; readonly afterwards?: () => void } {
		const number = integer(params.channel, 0xffff_ffff, 'channel');
		if (this.#attached.has(number)) throw new ProtocolError(`channel ${number} is taken`);
		const channel = this.#parts.host.get(text(params.channelId, 'channelId'));
		if (channel === undefined) return { answer: { known: false } };
		const stdout = integer(params.stdout, Number.MAX_SAFE_INTEGER, 'stdout');
		const stderr = integer(params.stderr, Number.MAX_SAFE_INTEGER, 'stderr');
		const listener = this.#listener(number);
		this.#attached.set(number, { channel, listener });
		return { answer: { known: true }, afterwards: () => channel.attach({ stdout, stderr }, listener) };
	}

	#listener(number: number): ChannelListener {
		return {
			onOutput: (stream, offset, bytes, end) =>
				this.#send(encodeDataHead(number, stream, end, offset, bytes.length), bytes),
			onStdinAck: (offset) => this.#send(encodeAck(number, 'stdin', offset)),
			onScreen: (offset, size, bytes) => this.#send(encodeScreenHead(number, size, offset, bytes.length), bytes),
			onEnd: (outcome) => this.#json({ outcome: { channel: number, ...outcome } }),
		};
	}

	#notice(method: string, params: Params): void {
		const number = integer(params.channel, 0xffff_ffff, 'channel');
		const attached = this.#attached.get(number);
		if (attached === undefined) return;
		const { channel, listener } = attached;
		if (method === 'detach') {
			this.#attached.delete(number);
			channel.detach(listener);
		} else this.#within(channel, () => channelNotice(channel, method, params));
	}

	#json(message: object): void {
		this.#send(toFrame(message, bounds.frameBytesMax));
	}

	#send(head: Buffer, bytes?: Buffer): void {
		if (this.#socket.destroyed) return;
		if (bytes === undefined || bytes.length === 0) this.#socket.write(head);
		else {
			this.#socket.cork();
			this.#socket.write(head);
			this.#socket.write(bytes);
			this.#socket.uncork();
		}
		if (this.#socket.writableLength > bounds.unsentBytesMax) {
			this.#parts.log('a connection was cut: it does not read what it asked for');
			this.#socket.destroy();
		}
	}
}

/** Listens on `path`; rejects when it can't. */
export function serve(path: string, parts: ServerParts): Promise<Server> {
	const server = createServer((socket) => new Connection(parts, socket));
	server.maxConnections = bounds.connectionsMax;
	return new Promise((resolve, reject) => {
		server.once('error', reject);
		server.listen(path, () => resolve(server));
	});
}
