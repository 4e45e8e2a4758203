import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { readAlways } from './read-always.ts';

/** Both ends of a connection. */
async function pair() {
	const server = createServer({ pauseOnConnect: true });
	server.listen(0, '127.0.0.1');
	await once(server, 'listening');
	const { port } = server.address() as { readonly port: number };
	const socket = connect(port, '127.0.0.1');
	const [peer] = (await once(server, 'connection')) as [Socket];
	server.close();
	return { socket, peer };
}

const PIECE = Buffer.alloc(1024 * 1024, 'x');
/** More than any kernel holds of one connection on this machine. */
const PIECES = 64;

test('takes what is written at once, and waits for the kernel past its bound', async () => {
	const { socket, peer } = await pair();
	const duplex = readAlways(socket, (PIECES / 2) * PIECE.length);
	let taken = 0;
	const half = Promise.withResolvers<void>();
	const onTaken = () => {
		taken += 1;
		if (taken === PIECES / 2) half.resolve();
	};
	for (let sent = 0; sent < PIECES; sent += 1) duplex.write(PIECE, onTaken);
	await half.promise;
	expect(taken).toBeLessThan(PIECES);
	peer.resume();
	duplex.end();
	await once(peer, 'end');
	expect(taken).toBe(PIECES);
	expect(peer.bytesRead).toBe(PIECES * PIECE.length);
	peer.end();
	await once(duplex, 'close');
});

test('gives what comes, as it is read, its end and its failure', async () => {
	const { socket, peer } = await pair();
	const duplex = readAlways(socket);
	peer.write(PIECE);
	peer.end('end');
	let came = 0;
	for await (const chunk of duplex) came += (chunk as Buffer).length;
	expect(came).toBe(PIECE.length + 3);

	const broken = await pair();
	const reading = readAlways(broken.socket).resume();
	broken.peer.resetAndDestroy();
	const [error] = (await once(reading, 'error')) as [NodeJS.ErrnoException];
	expect(error.code).toBe('ECONNRESET');
});
