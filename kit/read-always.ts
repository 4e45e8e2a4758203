import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';

/**
 * node:http2 reads nothing from its connection while a write waits for the kernel (Node 24, MaybeStopReading in
 * src/node_http2.cc). Two of it that both have more to say than the kernels in between hold wait for each other for
 * ever: what is piped through a program on a slow line, a copy there and one back. A connection that got stuck is cut by
 * whoever hears nothing (silence.ts); on the next one of the two, the one that dials, takes what is written at once, and
 * goes on reading. Not from the start: all bytes go through JavaScript here, which doubles what bulk costs. What may wait is bounded by the windows of HTTP/2; past `aheadBytesMax` a
 * write waits all the same, for whoever is asked for more than they take.
 *
 * Goes below TLS, which then judges and names the connection as ever.
 */
export function readAlways(socket: Socket, aheadBytesMax = AHEAD_BYTES_MAX): Duplex {
	return new ReadAlways(socket, aheadBytesMax);
}

const AHEAD_BYTES_MAX = 64 * 1024 * 1024;

interface Piece {
	readonly chunk: Buffer;
}

class ReadAlways extends Duplex {
	readonly #socket: Socket;
	readonly #aheadBytesMax: number;
	#waiting: (() => void) | undefined;

	constructor(socket: Socket, aheadBytesMax: number) {
		super();
		this.#socket = socket;
		this.#aheadBytesMax = aheadBytesMax;
		socket
			.on('data', (chunk: Buffer) => {
				if (!this.push(chunk)) socket.pause();
			})
			.on('drain', () => this.#drained())
			.once('end', () => this.push(null))
			.once('error', (error) => this.destroy(error))
			.once('close', () => this.destroy());
	}

	override _read(): void {
		this.#socket.resume();
	}

	override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
		this.#socket.write(chunk);
		this.#taken(done);
	}

	override _writev(pieces: readonly Piece[], done: () => void): void {
		this.#socket.cork();
		for (const { chunk } of pieces) this.#socket.write(chunk);
		this.#socket.uncork();
		this.#taken(done);
	}

	override _final(done: () => void): void {
		this.#socket.end(done);
	}

	override _destroy(error: Error | null, done: (error: Error | null) => void): void {
		this.#socket.destroy();
		done(error);
	}

	#taken(done: () => void): void {
		if (this.#socket.writableLength > this.#aheadBytesMax) this.#waiting = done;
		else done();
	}

	#drained(): void {
		const waiting = this.#waiting;
		this.#waiting = undefined;
		waiting?.();
	}
}
