/**
 * `ProcessHost` over the socket of protocol.ts; runs in the agent's process. One connection, never renewed: when it ends,
 * `closed` resolves, every waiting call rejects, and the agent calls `reapDirectory` and `startProcessHost` (start.ts).
 */
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { readDirectoryLock } from '../../kit/directory-lock.ts';
import { type ErrorCode, GpuaasError } from '../../kit/error.ts';
import { BoundedQueue } from '../../kit/queue.ts';
import type {
	CancelOutcome,
	ForgetOutcome,
	HostCapabilities,
	HostClosed,
	HostEvent,
	LaunchOutcome,
	LaunchRequest,
	OutputRecord,
	ProcessHost,
	ResultOutcome,
	TaskKey,
	TaskStatus,
} from '../tasks/process-host.ts';
import type { Connected } from './detached.ts';
import { agreeOnVersion, type Greeting, takesRetire } from './greeting.ts';
import { attachWindowBytes, recordOverheadBytes } from './limits.ts';
import { encodeJson, type Frame, FrameDecoder } from './protocol.ts';
import { socketName } from './state.ts';

/** More records than the window's overhead allows in flight: the queue is never full unless the host breaks its word. */
const RECORDS_MAX = (attachWindowBytes / recordOverheadBytes) * 2;

function lost(message: string): GpuaasError {
	const advice = 'find out whether the host lives, reap if it does not, and connect again';
	return new GpuaasError({
		code: 'UNAVAILABLE',
		reason: 'UNREACHABLE',
		message: `the process host: ${message}; ${advice}`,
	});
}

interface HostGreeting extends Greeting {
	readonly capabilities: HostCapabilities;
}

interface Waiting {
	readonly resolve: (value: unknown) => void;
	readonly reject: (error: unknown) => void;
}

/** Rejects when nobody listens, or when the peer isn't the holder of the directory's lock. `directory`: a real path. */
export async function connectProcessHost(directory: string): Promise<Connected<SocketProcessHost>> {
	const socket = connect(join(directory, socketName));
	await new Promise<void>((resolve, reject) => {
		socket.once('connect', () => resolve());
		socket.once('error', (error) => reject(lost(error.message)));
	});
	const connection = new Connection(socket);
	return { greeted: greet(connection, directory), close: () => socket.destroy() };
}

async function greet(connection: Connection, directory: string): Promise<SocketProcessHost> {
	const greeting = await agreeOnVersion('process host', (version) =>
		connection.call<HostGreeting>('hello', { version }),
	).catch(async (error: unknown) => {
		await connection.close();
		throw error;
	});
	const held = readDirectoryLock(directory);
	if (held?.alive !== true || held.lock.instanceId !== greeting.instanceId) {
		await connection.close();
		throw lost('whoever answers on its socket does not hold the lock of its directory');
	}
	return new SocketProcessHost(connection, greeting, held.lock.pid);
}

/** Frames to calls and back. */
class Connection {
	readonly closed: Promise<HostClosed>;
	readonly #socket: Socket;
	readonly #decoder = new FrameDecoder();
	readonly #waiting = new Map<number, Waiting>();
	readonly #outputs = new Map<number, BoundedQueue<OutputRecord>>();
	readonly #listeners = new Set<(event: HostEvent) => void>();
	#nextId = 1;
	#nextSubscription = 1;
	#isClosing = false;
	#error: GpuaasError | undefined;

	constructor(socket: Socket) {
		this.#socket = socket;
		let why = 'it closed the connection';
		socket.on('data', (chunk: Buffer) => {
			try {
				for (const frame of this.#decoder.push(chunk)) this.#accept(frame);
			} catch (error) {
				socket.destroy(error instanceof Error ? error : undefined);
			}
		});
		socket.on('error', (error) => {
			why = error.message;
		});
		this.closed = new Promise((resolve) => {
			socket.once('close', () => {
				this.#fail(lost(why));
				resolve({ kind: this.#isClosing ? 'CLOSED_BY_US' : 'LOST', message: why });
			});
		});
	}

	/** Calls that nobody answered yet. */
	get waitingCount(): number {
		return this.#waiting.size;
	}

	call<T>(method: string, params: object): Promise<T> {
		return new Promise((resolve, reject) => {
			if (this.#error !== undefined) return reject(this.#error);
			const id = this.#nextId++;
			const frame = encodeJson({ id, method, params });
			this.#waiting.set(id, { resolve: (value) => resolve(value as T), reject });
			this.#socket.write(frame);
		});
	}

	notice(method: string, params: object): void {
		if (this.#error === undefined) this.#socket.write(encodeJson({ method, params }));
	}

	openOutput(): { readonly subscription: number; readonly queue: BoundedQueue<OutputRecord> } {
		const subscription = this.#nextSubscription++;
		const queue = new BoundedQueue<OutputRecord>(RECORDS_MAX);
		if (this.#error === undefined) this.#outputs.set(subscription, queue);
		else queue.close(this.#error);
		return { subscription, queue };
	}

	/** What is read of it ends after what has come. */
	closeOutput(subscription: number): void {
		const queue = this.#outputs.get(subscription);
		if (queue === undefined) return;
		this.#outputs.delete(subscription);
		queue.close();
		this.notice('detach', { subscription });
	}

	listen(listener: (event: HostEvent) => void): () => void {
		this.#listeners.add(listener);
		return () => this.#listeners.delete(listener);
	}

	async close(): Promise<void> {
		this.#isClosing = true;
		this.#socket.destroy();
		await this.closed;
	}

	#fail(error: GpuaasError): void {
		this.#error = error;
		for (const waiting of this.#waiting.values()) waiting.reject(error);
		this.#waiting.clear();
		for (const queue of this.#outputs.values()) queue.close(error);
		this.#outputs.clear();
	}

	#accept(frame: Frame): void {
		if (frame.kind === 'output') {
			const { subscription, stream, offset, bytes } = frame;
			this.#record(subscription, { kind: 'DATA', stream, offset, bytes });
			return;
		}
		const message = frame.message as {
			id?: number;
			ok?: unknown;
			error?: { code: ErrorCode; reason: string; message: string };
			event?: HostEvent;
			gap?: { subscription: number; offset: number; droppedBytes: number };
			end?: { subscription: number; offset: number };
		};
		const { id, gap, end, event } = message;
		if (id !== undefined) {
			const waiting = this.#waiting.get(id);
			this.#waiting.delete(id);
			if (message.error === undefined) waiting?.resolve(message.ok);
			else waiting?.reject(new GpuaasError(message.error));
		} else if (event !== undefined) {
			for (const listener of this.#listeners) listener(event);
		} else if (gap !== undefined) {
			this.#record(gap.subscription, { kind: 'GAP', offset: gap.offset, droppedBytes: gap.droppedBytes });
		} else if (end !== undefined) {
			this.#record(end.subscription, { kind: 'END', offset: end.offset });
			this.#outputs.get(end.subscription)?.close();
			this.#outputs.delete(end.subscription);
		}
	}

	#record(subscription: number, record: OutputRecord): void {
		const queue = this.#outputs.get(subscription);
		// Detached meanwhile: what was on its way is nobody's.
		if (queue === undefined) return;
		if (!queue.push(record)) throw lost('it sent more output than it has credit for');
	}
}

export class SocketProcessHost implements ProcessHost {
	readonly capabilities: HostCapabilities;
	readonly closed: Promise<HostClosed>;
	/** Of the host, for status pages. */
	readonly pid: number;
	readonly version: number;
	/** Of the package that the host was started from; empty when it is too old to say. */
	readonly release: string;
	readonly #connection: Connection;
	#hasSubscribed = false;

	constructor(connection: Connection, greeting: HostGreeting, pid: number) {
		this.#connection = connection;
		this.capabilities = greeting.capabilities;
		this.version = greeting.version;
		this.release = greeting.release ?? '';
		this.closed = connection.closed;
		this.pid = pid;
	}

	launch(request: LaunchRequest): Promise<LaunchOutcome> {
		const { stdin, ...rest } = request;
		const encoded = stdin === undefined ? rest : { ...rest, stdin: Buffer.from(stdin).toString('base64') };
		return this.#connection.call('launch', encoded);
	}

	/** A generator alone would be left only when a silent task writes again: its `return` waits for the `next` before. */
	attach(key: TaskKey, fromOffset: number): AsyncIterableIterator<OutputRecord, void, void> {
		const output = this.#connection.openOutput();
		const records = this.#read(key, fromOffset, output);
		const iterator: AsyncIterableIterator<OutputRecord, void, void> = {
			next: () => records.next(),
			return: () => {
				this.#connection.closeOutput(output.subscription);
				return records.return();
			},
			[Symbol.asyncIterator]: () => iterator,
		};
		return iterator;
	}

	async *#read(
		{ taskId, attempt }: TaskKey,
		fromOffset: number,
		{ subscription, queue }: ReturnType<Connection['openOutput']>,
	): AsyncGenerator<OutputRecord, void, void> {
		let owedBytes = 0;
		try {
			const params = { taskId, attempt, fromOffset, subscription };
			const { known } = await this.#connection.call<{ known: boolean }>('attach', params);
			if (!known) {
				const message = `the process host has no attempt ${attempt} of task ${taskId}; it was never started or is forgotten`;
				throw new GpuaasError({ code: 'NOT_FOUND', reason: 'TASK_NOT_FOUND', message });
			}
			for await (const record of queue) {
				yield record;
				// The consumer asked for more, so it is done with this one.
				owedBytes += recordOverheadBytes + (record.kind === 'DATA' ? record.bytes.length : 0);
				if (owedBytes < attachWindowBytes / 4) continue;
				this.#connection.notice('credit', { subscription, bytes: owedBytes });
				owedBytes = 0;
			}
		} finally {
			this.#connection.closeOutput(subscription);
		}
	}

	cancel({ taskId, attempt }: TaskKey, graceMs: number): Promise<CancelOutcome> {
		return this.#connection.call('cancel', { taskId, attempt, graceMs });
	}

	list(): Promise<readonly TaskStatus[]> {
		return this.#connection.call('list', {});
	}

	result({ taskId, attempt }: TaskKey): Promise<ResultOutcome> {
		return this.#connection.call('result', { taskId, attempt });
	}

	forget({ taskId, attempt }: TaskKey): Promise<ForgetOutcome> {
		return this.#connection.call('forget', { taskId, attempt });
	}

	async allowDevices(allow: readonly string[]): Promise<void> {
		await this.#connection.call('allowDevices', { allow });
	}

	subscribe(listener: (event: HostEvent) => void): () => void {
		// Requests are answered in order of arrival as far as events go: a later `list` sees what no event told.
		if (!this.#hasSubscribed) this.#connection.call('subscribe', {}).catch(() => undefined);
		this.#hasSubscribed = true;
		return this.#connection.listen(listener);
	}

	async isIdle(): Promise<boolean> {
		return (await this.list()).every(({ phase }) => phase === 'ENDED');
	}

	/** Ends the host if no task is unfinished; false when one is, and the host goes on. */
	async retire(): Promise<boolean> {
		if (takesRetire(this)) {
			const { retired } = await this.#connection.call<{ retired: boolean }>('retire', {});
			if (retired) await this.closed;
			return retired;
		}
		// An older host decides nothing by itself; nobody but us gives it work, so what we know is all there is.
		if (this.#connection.waitingCount > 0 || !(await this.isIdle()) || this.#connection.waitingCount > 0) return false;
		await this.shutdown(0);
		return true;
	}

	/** Ends the host itself: running tasks get SIGTERM, after `graceMs` SIGKILL; resolves when the host is gone. */
	async shutdown(graceMs: number): Promise<void> {
		// The answer may get lost with the host.
		await this.#connection.call('shutdown', { graceMs }).catch(() => undefined);
		await this.closed;
	}

	close(): Promise<void> {
		return this.#connection.close();
	}
}
