import { createServer } from 'node:net';
import { systemRng } from '../kit/ids.ts';

/**
 * A port of the loopback for a program that has to be told one. Outside the range from which Linux gives ports to whoever
 * asks for any, listeners and outgoing connections: one from there is another's by the time that the program has started.
 */
const FIRST = 10_000;
const LAST = 32_000;
const given = new Set<number>();

export async function freePort(): Promise<number> {
	for (;;) {
		const [high = 0, low = 0] = systemRng.bytes(2);
		const port = FIRST + ((high * 256 + low) % (LAST - FIRST));
		if (given.has(port) || !(await isFree(port))) continue;
		given.add(port);
		return port;
	}
}

function isFree(port: number): Promise<boolean> {
	return new Promise((resolve) => {
		const server = createServer().once('error', () => resolve(false));
		server.listen({ host: '127.0.0.1', port, exclusive: true }, () => void server.close(() => resolve(true)));
	});
}
