import type {
	HostClosed,
	HostEvent,
	LaunchOutcome,
	LaunchRequest,
	OutputRecord,
	ProcessHost,
	TaskKey,
} from '../../../agent/tasks/process-host.ts';
import { GpuaasError } from '../../../kit/error.ts';
import { SIM_CAPABILITIES, type SimHost } from './host.ts';
import type { SeededRng } from './random.ts';
import type { SimProcess } from './scheduler.ts';

/**
 * One agent's connection to its machine's process host: as the socket client, with a moment on the way in each
 * direction. It ends with the host, with the agent, or by `close`; then every waiting call rejects.
 */
const WAY_MAX_MS = 1;

function lost(): GpuaasError {
	return new GpuaasError({ code: 'UNAVAILABLE', reason: 'UNREACHABLE', message: 'the process host: connection lost' });
}

export function connectSimHost(host: SimHost, agent: SimProcess, rng: SeededRng): Promise<ProcessHost> {
	if (!host.isUp) return Promise.reject(lost());
	return Promise.resolve(new HostConnection(host, agent, rng));
}

class HostConnection implements ProcessHost {
	readonly capabilities = SIM_CAPABILITIES;
	readonly closed: Promise<HostClosed>;
	readonly #host: SimHost;
	readonly #agent: SimProcess;
	readonly #rng: SeededRng;
	readonly #listeners = new Set<(event: HostEvent) => void>();
	readonly #waiting = new Set<(error: GpuaasError) => void>();
	readonly #unsubscribe: () => void;
	#onClosed: (closed: HostClosed) => void = () => {};
	readonly #upLane: ReturnType<SimProcess['lane']>;
	readonly #downLane: ReturnType<SimProcess['lane']>;
	#over = false;

	constructor(host: SimHost, agent: SimProcess, rng: SeededRng) {
		this.#host = host;
		this.#agent = agent;
		this.#rng = rng;
		this.#upLane = agent.lane();
		this.#downLane = agent.lane();
		this.closed = new Promise((resolve) => {
			this.#onClosed = resolve;
		});
		this.#unsubscribe = host.subscribe((event) =>
			this.#down(() => {
				for (const listener of [...this.#listeners]) listener(event);
			}),
		);
		host.onDown(() =>
			this.#agent.after(this.#rng.float() * WAY_MAX_MS, () => this.#end('LOST', 'it closed the connection')),
		);
		agent.onDeath(() => this.#end('LOST', 'its agent died'));
	}

	launch(request: LaunchRequest): Promise<LaunchOutcome> {
		return this.#call((answer) => this.#host.launch(structuredClone(request), answer));
	}

	cancel(key: TaskKey, graceMs: number) {
		return this.#call<ReturnType<SimHost['cancel']>>((answer) => answer(this.#host.cancel(key, graceMs)));
	}

	list() {
		return this.#call<ReturnType<SimHost['list']>>((answer) => answer(this.#host.list()));
	}

	result(key: TaskKey) {
		return this.#call<ReturnType<SimHost['result']>>((answer) => answer(this.#host.result(key)));
	}

	forget(key: TaskKey) {
		return this.#call<ReturnType<SimHost['forget']>>((answer) => answer(this.#host.forget(key)));
	}

	async allowDevices(): Promise<void> {}

	subscribe(listener: (event: HostEvent) => void): () => void {
		this.#listeners.add(listener);
		return () => this.#listeners.delete(listener);
	}

	async *attach(key: TaskKey, fromOffset: number): AsyncGenerator<OutputRecord, void, void> {
		let offset = fromOffset;
		for (;;) {
			let wake = () => {};
			const changed = new Promise<void>((resolve) => {
				wake = resolve;
			});
			// Watched before looking: what happens in between is not missed.
			const unwatch = this.#host.watch(() => this.#down(wake));
			const giveUp = () => wake();
			this.#waiting.add(giveUp);
			try {
				const output = await this.#call<ReturnType<SimHost['output']>>((answer) => answer(this.#host.output(key)));
				if (output === undefined)
					throw new GpuaasError({
						code: 'NOT_FOUND',
						reason: 'TASK_NOT_FOUND',
						message: 'the host has no such attempt',
					});
				for (const record of recordsOf(output.written, offset)) {
					offset =
						record.offset +
						(record.kind === 'DATA' ? record.bytes.length : record.kind === 'GAP' ? record.droppedBytes : 0);
					yield record;
				}
				if (output.isEnded) {
					yield { kind: 'END', offset };
					return;
				}
				await changed;
				if (this.#over) throw lost();
			} finally {
				unwatch();
				this.#waiting.delete(giveUp);
			}
		}
	}

	close(): Promise<void> {
		this.#end('CLOSED_BY_US', 'closed');
		return Promise.resolve();
	}

	#call<T>(serve: (answer: (value: T) => void) => void): Promise<T> {
		return new Promise((resolve, reject) => {
			if (this.#over) {
				reject(lost());
				return;
			}
			this.#waiting.add(reject);
			this.#upLane(this.#rng.float() * WAY_MAX_MS, () => {
				if (this.#over || !this.#host.isUp) return;
				serve((value) => {
					this.#down(() => {
						this.#waiting.delete(reject);
						resolve(value);
					});
				});
			});
		});
	}

	#down(deliver: () => void): void {
		this.#downLane(this.#rng.float() * WAY_MAX_MS, () => {
			if (!this.#over) deliver();
		});
	}

	#end(kind: HostClosed['kind'], message: string): void {
		if (this.#over) return;
		this.#over = true;
		this.#unsubscribe();
		const waiting = [...this.#waiting];
		this.#waiting.clear();
		for (const reject of waiting) reject(lost());
		this.#onClosed({ kind, message });
	}
}

type Written = NonNullable<ReturnType<SimHost['output']>>['written'];

function recordsOf(written: Written, fromOffset: number): OutputRecord[] {
	const records: OutputRecord[] = [];
	for (const { offset, stream, bytes, dropped } of written) {
		const endOffset = offset + bytes.length;
		if (endOffset <= fromOffset) continue;
		const from = Math.max(offset, fromOffset);
		const last = records.at(-1);
		if (!dropped) records.push({ kind: 'DATA', stream, offset: from, bytes: bytes.slice(from - offset) });
		else if (last?.kind === 'GAP')
			records[records.length - 1] = { ...last, droppedBytes: last.droppedBytes + (endOffset - from) };
		else records.push({ kind: 'GAP', offset: from, droppedBytes: endOffset - from });
	}
	return records;
}
