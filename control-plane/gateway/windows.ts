import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2';

/**
 * Raises the receive window of *connections*: settings can only raise those of streams (RFC 9113 section 6.9.2), and
 * grpc-js keeps its sessions to itself. The first stream of a connection tells us of it. Process-wide by nature, so it
 * is limited to calls of the agent link.
 */
const CHANNEL = 'http2.server.stream.created';

interface StreamCreated {
	readonly stream: ServerHttp2Stream;
	readonly headers: IncomingHttpHeaders;
}

export function raiseConnectionWindows(pathPrefix: string, windowBytes: number): Disposable {
	const raised = new WeakSet<ServerHttp2Session>();
	const listener = (message: unknown) => {
		const { stream, headers } = message as StreamCreated;
		const session = stream.session as ServerHttp2Session | undefined;
		if (session === undefined || session.destroyed || raised.has(session)) return;
		if (!(headers[':path'] as string | undefined)?.startsWith(pathPrefix)) return;
		raised.add(session);
		session.setLocalWindowSize(windowBytes);
	};
	subscribe(CHANNEL, listener);
	return { [Symbol.dispose]: () => void unsubscribe(CHANNEL, listener) };
}
