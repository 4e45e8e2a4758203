import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import type { Clock, Timer } from '../../kit/clock.ts';

/**
 * Ends HTTP/2 streams that the other side keeps open by never ending its half. grpc-js forgets a call once it has sent
 * the status, but the stream, and with it the connection, stays for as long as the peer likes; and it calls nobody before
 * the one message of a unary call is whole. So a stream that we have ended is reset after a grace (RFC 9113 section 8.1:
 * NO_ERROR, the answer counts), and a unary request has as long as a Hello. Bidirectional streams say Hello to link.ts,
 * output.ts and channel.ts, which have their own patience; a channel whose peer doesn't read what came before its end is
 * reset by direct-call.ts. The first word of a stream reaches us as in windows.ts.
 */
const CHANNEL = 'http2.server.stream.created';

export interface HalfOpenLimits {
	readonly unaryRequestMs: number;
	readonly endedGraceMs: number;
}

export function endHalfOpenStreams(
	clock: Clock,
	/** The gateway's own: other servers of this process are left alone. */
	port: number,
	unaryPath: string,
	limits: HalfOpenLimits,
): Disposable {
	const listener = (message: unknown) => {
		const { stream, headers } = message as {
			readonly stream: ServerHttp2Stream;
			readonly headers: IncomingHttpHeaders;
		};
		if (stream.session?.socket?.localPort !== port) return;
		let timer: Timer | undefined;
		const closeIn = (delayMs: number, code: number) => {
			timer?.cancel();
			timer = clock.setTimer(() => stream.close(code), delayMs);
		};
		if (headers[':path'] === unaryPath) {
			closeIn(limits.unaryRequestMs, constants.NGHTTP2_CANCEL);
			stream.once('end', () => timer?.cancel());
		}
		stream.once('finish', () => closeIn(limits.endedGraceMs, constants.NGHTTP2_NO_ERROR));
		stream.once('close', () => timer?.cancel());
	};
	subscribe(CHANNEL, listener);
	return { [Symbol.dispose]: () => void unsubscribe(CHANNEL, listener) };
}
