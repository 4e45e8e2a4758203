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
			reject(
				new GpuaasError({
					code: error.code === 'EADDRINUSE' ? 'ALREADY_EXISTS' : 'FAILED_PRECONDITION',
					reason: 'FORWARD_UNREACHABLE',
					message: `${host}:${port} ${whyNot(error)}`,
				}),
			);
		});
		server.listen(port, host, () => resolve());
	});
}

/** What is wrong with it here, and what to do. */
function whyNot({ code, message }: NodeJS.ErrnoException): string {
	if (code === 'EADDRINUSE') return 'is in use here; choose another port, 0 for any free one';
	if (code === 'EACCES')
		return 'is not for you to listen on here (EACCES); choose a port from 1024 on, 0 for any free one';
	if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND' || code === 'EAI_AGAIN')
		return `can't be listened on: this machine has no such address (${code}); choose another --bind, without it it is 127.0.0.1`;
	return `can't be listened on here (${code ?? message})`;
}
