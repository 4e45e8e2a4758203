import { createServer, type Server, type Socket } from 'node:net';
import { bridge } from '../../channel/bridge.ts';
import type { Mux } from '../../channel/mux.ts';
import { GpuaasError } from '../../kit/error.ts';

/** A local port whose connections each become a channel to the node. Disposing resets those that are open. */
export interface ForwardListener extends AsyncDisposable {
	readonly port: number;
}

/** Throws ALREADY_EXISTS for a port that is taken. `onRefused` hears why the node didn't connect. */
export async function listenFor(
	mux: Mux,
	address: { readonly host: string; readonly port: number },
	onRefused: (error: GpuaasError) => void,
): Promise<ForwardListener> {
	const sockets = new Set<Socket>();
	const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
		sockets.add(socket);
		socket.once('close', () => sockets.delete(socket));
		// Until it is bridged; a person's browser gives up at any time.
		socket.on('error', () => {});
		mux.open().then(
			(channel) => {
				void bridge(socket, channel);
				socket.resume();
			},
			(error: unknown) => {
				socket.resetAndDestroy();
				onRefused(GpuaasError.from(error));
			},
		);
	});
	await listening(server, address);
	const bound = server.address();
	return {
		port: typeof bound === 'object' && bound !== null ? bound.port : address.port,
		async [Symbol.asyncDispose]() {
			const closed = new Promise<void>((resolve) => {
				server.close(() => resolve());
			});
			// A server is closed when its last connection is, and a browser keeps its own for minutes.
			for (const socket of sockets) socket.resetAndDestroy();
			await closed;
		},
	};
}

function listening(server: Server, { host, port }: { readonly host: string; readonly port: number }): Promise<void> {
	return new Promise((resolve, reject) => {
		server.once('error', (error: NodeJS.ErrnoException) => {
			const why = error.code === 'EADDRINUSE' ? 'is in use' : `can't be listened on (${error.code ?? error.message})`;
			reject(
				new GpuaasError({
					code: 'ALREADY_EXISTS',
					reason: 'FORWARD_UNREACHABLE',
					message: `${host}:${port} ${why} here; choose another port, as in 0:${port} for any free one`,
				}),
			);
		});
		server.listen(port, host, () => resolve());
	});
}
