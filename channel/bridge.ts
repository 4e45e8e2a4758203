import type { Socket } from 'node:net';
import type { MuxChannel } from './mux-channel.ts';

/**
 * A TCP connection as one end of a channel, in both directions, until both are over. The socket must allow half-open
 * connections. What TCP says passes through: an end is an end, a reset a reset. Resolves when the socket is closed and what
 * it sent is on its way.
 */
export function bridge(socket: Socket, channel: MuxChannel): Promise<void> {
	let isOver = false;
	let hasEnded = false;
	/** Of the socket's end: it must not overtake the data before it. */
	let sending = Promise.resolve();
	const reset = () => {
		isOver = true;
		if (socket.destroyed) return;
		socket.resetAndDestroy();
	};
	socket.setNoDelay(true);
	socket.on('data', (bytes: Buffer) => {
		// One chunk of a connection is on its way at a time: that bounds memory, and shares the pipe.
		socket.pause();
		sending = channel.send(bytes).then(() => void socket.resume(), reset);
	});
	socket.once('end', () => {
		hasEnded = true;
		sending = sending.then(() => channel.end()).catch(reset);
	});
	socket.on('error', () => channel.reset());
	channel.listen((event) => {
		if (isOver) return;
		if (event.kind === 'reset') reset();
		else if (event.kind === 'end') socket.end();
		else socket.write(event.bytes, (error) => (error ? channel.reset() : channel.consumed(event.bytes.length)));
	});
	return new Promise((resolve) => {
		const over = () => {
			channel.reset();
			resolve();
		};
		const closed = (hadError: boolean) => {
			isOver = true;
			// One that ended both ways is closed at once, while its last bytes may wait here until the other side reads.
			if (hasEnded && !hadError) sending.then(over);
			else over();
		};
		if (socket.destroyed) closed(true);
		else socket.once('close', closed);
	});
}
