import type { Http2Session } from 'node:http2';
import { TLSSocket } from 'node:tls';
import { createContextKey } from '@connectrpc/connect';
import { EXPORTER_BYTES, EXPORTER_LABEL } from '../../pki/keys/enroll-transcript.ts';

/** What a handler is told about the connection that its call came on. */
export interface Channel {
	/** RFC 9266 channel binding; undefined when the connection is gone. */
	readonly exporter: Uint8Array | undefined;
	/** Address of the peer. */
	readonly peer: string;
}

export const channelKey = createContextKey<Channel>({ exporter: undefined, peer: '' });

/** TLS 1.3 only: under TLS 1.2 without extended master secret an exporter can be the same on two connections. */
export function channelOf(session: Http2Session | undefined): Channel {
	const socket = session?.socket;
	const peer = socket?.remoteAddress ?? '';
	if (!(socket instanceof TLSSocket) || socket.getProtocol() !== 'TLSv1.3') return { exporter: undefined, peer };
	const exporter = socket.exportKeyingMaterial(EXPORTER_BYTES, EXPORTER_LABEL, Buffer.alloc(0));
	return { exporter: new Uint8Array(exporter), peer };
}
