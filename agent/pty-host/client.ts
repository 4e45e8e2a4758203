/**
 * `PtyHost` over the socket of protocol.ts; runs in the agent's process. One connection, never renewed: when it ends,
 * `closed` resolves, every waiting call rejects, and the agent starts or finds the next host (start.ts).
 */
import { connect, type OnReadOpts, type Socket } from 'node:net';
import { join } from 'node:path';
import { readDirectoryLock } from '../../kit/directory-lock.ts';
import { type ErrorCode, GpuaasError } from '../../kit/error.ts';
import { buffersCame } from '../../kit/young-garbage.ts';
import type { DeviceMechanism } from '../platform/device-rules.ts';
import type { Connected } from '../process-host/detached.ts';
import { FrameReader } from '../process-host/frame-reader.ts';
import { encodeJson } from '../process-host/framing.ts';
import { agreeOnVersion, type Greeting, takesRetire } from '../process-host/greeting.ts';
import { socketName } from '../process-host/state.ts';
import { frameBytesMax } from './limits.ts';
import { decodeFrame, encodeAck, encodeDataHead, type Frame } from './protocol.ts';
import type {
	Attachment,
	ChannelListener,
	ChannelOutcome,
	ChannelStatus,
	OpenOutcome,
	OpenRequest,
	PtyHost,
} from './pty-host.ts';

/** `devices`: absent in hosts that know nothing of lists of devices. */
interface PtyGreeting extends Greeting {
	readonly devices?: DeviceMechanism;
}

interface Waiting {
	readonly resolve: (value: unknown) => void;
	readonly reject: (error: unknown) => void;
}

function lost(message: string): GpuaasError {
	return new GpuaasError({ code: 'UNAVAILABLE', reason: 'UNREACHABLE', message: `the pty host: ${message}` });
}

/** Rejects when nobody listens, or when the peer isn't the holder of the directory's lock. `directory`: a real path. */
export async function connectPtyHost(directory: string): Promise<Connected<SocketPtyHost>> {
	const path = join(directory, socketName);
	const host = new SocketPtyHost((onread) => connect({ path, onread }));
	await host.connected();
	return { greeted: greet(host, directory), close: () => void host.close() };
}

async function greet(host: SocketPtyHost, directory: string): Promise<SocketPtyHost> {
	const { instanceId, devices } = await host.greet().catch(async (error: unknown) => {
		await host.close();
		throw error;
	});
	const held = readDirectoryLock(directory);
	if (held?.alive === true && held.lock.instanceId === instanceId) {
		host.pid = held.lock.pid;
		host.devices = devices;
		return host;
	}
	await host.close();
	throw lost('whoever answers on its socket does not hold the lock of its directory');
}

export class SocketPtyHost implements PtyHost {
	readonly closed: Promise<{ readonly message: string }>;
	/** Of the host, for those who must end it. */
	pid = 0;
	/** That the two agreed on; 0 before. */
	version = 0;
	/** Of the package that the host was started from; empty when it is too old to say. */
	release = '';
	devices: DeviceMechanism | undefined;
	readonly #socket: Socket;
	readonly #reader = new FrameReader(frameBytesMax);
	readonly #waiting = new Map<number, Waiting>();
	readonly #listeners = new Map<number, ChannelListener>();
	#nextId = 1;
	#nextChannel = 1;
	#error: GpuaasError | undefined;

	constructor(dial: (onread: OnReadOpts) => Socket) {
		const socket = dial({ buffer: () => this.#reader.room(), callback: (bytes) => this.#receive(bytes) });
		this.#socket = socket;
		let why = 'it closed the connection';
		socket.on('error', (error) => {
			why = error.message;
		});
		this.closed = new Promise((resolve) => {
			socket.once('close', () => {
				this.#error = lost(why);
				for (const waiting of this.#waiting.values()) waiting.reject(this.#error);
				this.#waiting.clear();
				this.#listeners.clear();
				resolve({ message: why });
			});
		});
	}

	/** Rejects when nobody listens. */
	connected(): Promise<void> {
		return new Promise((resolve, reject) => {
			this.#socket.once('connect', () => resolve());
			this.#socket.once('error', (error) => reject(lost(error.message)));
		});
	}

	async greet(): Promise<PtyGreeting> {
		const greeting = await agreeOnVersion('pty host', (version) => this.#call<PtyGreeting>('hello', { version }));
		this.version = greeting.version;
		this.release = greeting.release ?? '';
		return greeting;
	}

	open(request: OpenRequest): Promise<OpenOutcome> {
		return this.#call('open', request);
	}

	list(): Promise<readonly ChannelStatus[]> {
		return this.#call('list', {});
	}

	async attach(
		id: string,
		from: { readonly stdout: number; readonly stderr: number },
		listener: ChannelListener,
	): Promise<Attachment | undefined> {
		const channel = this.#nextChannel;
		this.#nextChannel += 1;
		this.#listeners.set(channel, listener);
		const { known } = await this.#call<{ known: boolean }>('attach', { channel, channelId: id, ...from });
		if (known) return this.#attachment(channel);
		this.#listeners.delete(channel);
		return undefined;
	}

	async end(id: string, reason: string, message: string): Promise<void> {
		await this.#call('end', { channelId: id, reason, message });
	}

	async forget(id: string): Promise<void> {
		await this.#call('forget', { channelId: id });
	}

	async allowDevices(allow: readonly string[]): Promise<void> {
		await this.#call('allowDevices', { allow });
	}

	async ping(): Promise<void> {
		await this.#call('ping', {});
	}

	async isIdle(): Promise<boolean> {
		return (await this.list()).length === 0;
	}

	/** Ends the host if there is no channel in it, ended or not; false when there is one, and the host goes on. */
	async retire(): Promise<boolean> {
		if (takesRetire(this)) {
			const { retired } = await this.#call<{ retired: boolean }>('retire', {});
			if (retired) await this.closed;
			return retired;
		}
		// An older host decides nothing by itself; nobody but us gives it work, so what we know is all there is.
		if (this.#waiting.size > 0 || !(await this.isIdle()) || this.#waiting.size > 0) return false;
		await this.shutdown();
		return true;
	}

	async shutdown(): Promise<void> {
		// The answer may get lost with the host.
		await this.#call('shutdown', {}).catch(() => undefined);
		await this.closed;
	}

	async close(): Promise<void> {
		this.#socket.destroy();
		await this.closed;
	}

	#attachment(channel: number): Attachment {
		const notice = (method: string, params: object) => this.#json({ method, params: { channel, ...params } });
		return {
			write: (offset, bytes, end) => {
				if (this.#error !== undefined) return;
				this.#socket.cork();
				this.#socket.write(encodeDataHead(channel, 'stdin', end, offset, bytes.length));
				if (bytes.length > 0) this.#socket.write(bytes);
				this.#socket.uncork();
			},
			ack: (stream, offset) => void (this.#error ?? this.#socket.write(encodeAck(channel, stream, offset))),
			resize: (size) => notice('resize', size),
			requestScreen: () => notice('screen', {}),
			signal: (name) => notice('signal', { name }),
			detach: () => {
				if (this.#listeners.delete(channel)) notice('detach', {});
			},
		};
	}

	#call<T>(method: string, params: object): Promise<T> {
		return new Promise((resolve, reject) => {
			if (this.#error !== undefined) return reject(this.#error);
			const id = this.#nextId;
			this.#nextId += 1;
			this.#waiting.set(id, { resolve: (value) => resolve(value as T), reject });
			this.#json({ id, method, params });
		});
	}

	#json(message: object): void {
		if (this.#error === undefined) this.#socket.write(encodeJson(message, frameBytesMax));
	}

	/** Whether it reads on. */
	#receive(bytes: number): boolean {
		buffersCame(bytes);
		try {
			for (const frame of this.#reader.took(bytes)) this.#accept(decodeFrame(frame));
			return true;
		} catch (error) {
			this.#socket.destroy(error instanceof Error ? error : undefined);
			return false;
		}
	}

	#accept(frame: Frame): void {
		if (frame.kind === 'json') {
			this.#message(frame.message);
			return;
		}
		// Detached meanwhile: what was on its way is nobody's.
		const listener = this.#listeners.get(frame.channel);
		if (frame.kind === 'screen') listener?.onScreen(frame.offset, frame.size, frame.bytes);
		else if (frame.kind === 'ack') listener?.onStdinAck(frame.offset);
		else if (frame.stream !== 'stdin') listener?.onOutput(frame.stream, frame.offset, frame.bytes, frame.end);
	}

	#message(message: Record<string, unknown>): void {
		const { id, ok, error, outcome } = message as {
			id?: number;
			ok?: unknown;
			error?: { code: ErrorCode; reason: string; message: string };
			outcome?: ChannelOutcome & { channel: number };
		};
		if (outcome !== undefined) {
			const { channel, ...rest } = outcome;
			this.#listeners.get(channel)?.onEnd(rest);
			return;
		}
		if (id === undefined) return;
		const waiting = this.#waiting.get(id);
		this.#waiting.delete(id);
		if (error === undefined) waiting?.resolve(ok);
		else waiting?.reject(new GpuaasError(error));
	}
}
