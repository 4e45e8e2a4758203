import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import type { Clock } from '../../kit/clock.ts';
import { type SilenceLimits, whenSilent } from '../../kit/silence.ts';

/**
 * Ends connections of agents that are not heard any more. grpc-js's own keepalive wants the answer to its PING in time,
 * which on a slow line comes behind all that the agent has queued: bulk of one terminal cost all of its node their
 * connection, every 15 s. The first stream of a connection tells us of it, as in windows.ts; before it the acceptor's
 * patience counts.
 */
const CHANNEL = 'http2.server.stream.created';

export function endSilentPeers(
	clock: Clock,
	/** The gateway's own: other servers of this process are left alone. */
	port: number,
	limits: SilenceLimits,
): Disposable {
	const known = new WeakSet<ServerHttp2Session>();
	const listener = (message: unknown) => {
		const session = (message as { readonly stream: ServerHttp2Stream }).stream.session as
			| ServerHttp2Session
			| undefined;
		if (session === undefined || session.destroyed || known.has(session)) return;
		if (session.socket.localPort !== port) return;
		known.add(session);
		const silence = whenSilent(clock, session, limits, () => session.destroy());
		session.once('close', () => silence.cancel());
	};
	subscribe(CHANNEL, listener);
	return { [Symbol.dispose]: () => void unsubscribe(CHANNEL, listener) };
}
