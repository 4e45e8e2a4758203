import { connect, createServer, type Server, type Socket } from 'node:net';
import { systemClock } from '../../kit/clock.ts';

/**
 * A TCP relay with a round-trip time, for tests and benchmarks: half of it each way, without limiting bandwidth, so
 * that only protocol windows do. It can cut all connections (reset), go half-open (forward nothing and close nothing,
 * as a pulled cable does) and refuse new ones. It delays what the kernel delivered: loss and reordering it can't show.
 */
export class DelayRelay implements AsyncDisposable {
	readonly port: number;
	readonly #server: Server;
	readonly #state: RelayState;

	static listen(target: { readonly host: string; readonly port: number }, rttMs = 0): Promise<DelayRelay> {
		const state: RelayState = { rttMs, isHalfOpen: false, isRefusing: false, sockets: new Set(), accepted: 0 };
		const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => relay(client, target, state));
		return new Promise((resolve, reject) => {
			server.once('error', reject);
			server.listen({ host: '127.0.0.1', port: 0 }, () => {
				const address = server.address();
				if (address === null || typeof address === 'string') reject(new Error('the relay has no port'));
				else resolve(new DelayRelay(server, address.port, state));
			});
		});
	}

	private constructor(server: Server, port: number, state: RelayState) {
		this.#server = server;
		this.port = port;
		this.#state = state;
	}

	/** Connections accepted so far. */
	get accepted(): number {
		return this.#state.accepted;
	}

	set rttMs(rttMs: number) {
		this.#state.rttMs = rttMs;
	}

	/** From now on nothing is forwarded, also on new connections, and nothing is closed. */
	halfOpen(isHalfOpen: boolean): void {
		this.#state.isHalfOpen = isHalfOpen;
	}

	/** Resets new connections at once. */
	refuse(isRefusing: boolean): void {
		this.#state.isRefusing = isRefusing;
	}

	/** Resets all connections; new ones are relayed. */
	cut(): void {
		for (const socket of [...this.#state.sockets]) socket.resetAndDestroy();
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.cut();
		await new Promise((resolve) => this.#server.close(resolve));
	}
}

interface RelayState {
	rttMs: number;
	isHalfOpen: boolean;
	isRefusing: boolean;
	readonly sockets: Set<Socket>;
	accepted: number;
}

/** Bytes on the way in one direction: as a long cable, far more than any window under test. */
const IN_FLIGHT_BYTES_MAX = 64 * 1024 * 1024;

function relay(client: Socket, target: { readonly host: string; readonly port: number }, state: RelayState): void {
	if (state.isRefusing) {
		client.resetAndDestroy();
		return;
	}
	state.accepted += 1;
	const upstream = connect({ ...target, noDelay: true, allowHalfOpen: true });
	for (const [socket, other] of [
		[client, upstream],
		[upstream, client],
	] as const) {
		state.sockets.add(socket);
		socket.on('error', () => {});
		socket.once('close', () => {
			state.sockets.delete(socket);
			if (!state.isHalfOpen) other.destroy();
		});
		forward(socket, other, state);
	}
}

function forward(from: Socket, to: Socket, state: RelayState): void {
	const line: { readonly bytes: Buffer | null; readonly dueMs: number }[] = [];
	let inFlightBytes = 0;
	let isWaiting = false;
	const deliver = () => {
		isWaiting = false;
		const nowMs = systemClock.monotonic();
		for (let next = line[0]; next !== undefined && next.dueMs <= nowMs; next = line[0]) {
			line.shift();
			if (state.isHalfOpen) continue;
			if (next.bytes === null) to.end();
			else {
				inFlightBytes -= next.bytes.length;
				to.write(next.bytes);
			}
		}
		if (inFlightBytes < IN_FLIGHT_BYTES_MAX) from.resume();
		wait();
	};
	const wait = () => {
		const next = line[0];
		if (next === undefined || isWaiting) return;
		isWaiting = true;
		systemClock.setTimer(deliver, next.dueMs - systemClock.monotonic());
	};
	const enqueue = (bytes: Buffer | null) => {
		if (state.isHalfOpen) return;
		if (state.rttMs === 0 && line.length === 0) {
			if (bytes === null) to.end();
			else to.write(bytes);
			return;
		}
		line.push({ bytes, dueMs: systemClock.monotonic() + state.rttMs / 2 });
		inFlightBytes += bytes?.length ?? 0;
		if (inFlightBytes >= IN_FLIGHT_BYTES_MAX) from.pause();
		wait();
	};
	from.on('data', enqueue);
	from.on('end', () => enqueue(null));
}
