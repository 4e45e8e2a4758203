import { subscribe } from 'node:diagnostics_channel';
import { appendFileSync } from 'node:fs';
import { every, systemClock } from '../../kit/clock.ts';
import { KEY, type Mark, monotonicUs } from './hops.ts';

/**
 * Preloaded into the processes of a product that is measured by hops.ts: notes when a key passes the process's ends, on
 * CLOCK_MONOTONIC, which all processes of a machine share. It looks at plain bytes of HTTP/2 streams and of the sockets
 * to hosts; the product knows nothing of it.
 */
const marks: Mark[] = [];
const seen = new Set<string>();

interface Duplex {
	push(chunk: unknown, encoding?: unknown): boolean;
	write(chunk: unknown, ...rest: unknown[]): boolean;
}

/** By which node:net gives what it read to whoever brought a buffer (`onread`), instead of `push`. */
function onReadSymbol(stream: object): symbol | undefined {
	return Object.getOwnPropertySymbols(stream).find(({ description }) => description === 'kBufferCb');
}

function follow(stream: Duplex, end: string): void {
	const { push, write } = stream;
	const symbol = onReadSymbol(stream);
	const onRead: unknown = symbol === undefined ? undefined : Reflect.get(stream, symbol);
	if (symbol !== undefined && typeof onRead === 'function')
		Reflect.set(stream, symbol, (bytes: number, buffer: Uint8Array): unknown => {
			look(buffer.subarray(0, bytes), `${end} in`);
			return onRead(bytes, buffer);
		});
	stream.push = (chunk, encoding) => {
		look(chunk, `${end} in`);
		return push.call(stream, chunk, encoding);
	};
	stream.write = (chunk, ...rest) => {
		look(chunk, `${end} out`);
		return write.call(stream, chunk, ...rest);
	};
}

function look(chunk: unknown, point: string): void {
	// A key and what is around it: bulk and handshakes are none.
	if (!(chunk instanceof Uint8Array) || chunk.length > 200) return;
	const [key] = KEY.exec(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length).toString('latin1')) ?? [];
	if (key === undefined || seen.has(`${key} ${point}`)) return;
	seen.add(`${key} ${point}`);
	marks.push({ key, point, us: monotonicUs() });
}

function onStream(message: unknown): void {
	const { stream, headers } = message as { readonly stream: Duplex; readonly headers: Record<string, unknown> };
	const path = String(headers[':path']);
	const role = process.argv[1]?.includes('control-plane/') ? (path.includes('.link.') ? 'gateway' : 'api') : ownRole();
	follow(stream, role);
}

function ownRole(): string {
	return process.argv[1]?.includes('agent/') ? 'agent' : 'command';
}

subscribe('http2.client.stream.created', onStream);
subscribe('http2.server.stream.created', onStream);
subscribe('net.client.socket', (message) => {
	const { socket } = message as { readonly socket: Duplex & { once(event: string, listener: () => void): void } };
	// Connecting sets `write` anew.
	socket.once('connect', () => follow(socket, `${ownRole()} host`));
});

const file = `${process.env.BENCH_HOPS}/${process.pid}.json`;
every(
	systemClock,
	100,
	() => {
		if (marks.length > 0)
			appendFileSync(
				file,
				`${marks
					.splice(0)
					.map((mark) => JSON.stringify(mark))
					.join('\n')}\n`,
			);
	},
	() => {},
);
