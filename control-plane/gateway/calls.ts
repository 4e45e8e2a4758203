import { Metadata, type ServerDuplexStream, type StatusObject, status } from '@grpc/grpc-js';
import { CODE_NUMBER, type GpuaasError } from '../../kit/error.ts';
import type { ServerStream, StreamListener, StreamStatus } from './stream.ts';

/** gRPC calls as the streams that the gateway's logic stands on, and its errors as gRPC statuses. */
export function statusObject({ code, reason, message, retryAfterMs }: StreamStatus): StatusObject {
	const metadata = new Metadata();
	if (reason !== '') metadata.set('gpuaas-reason', reason);
	// Seconds, as in HTTP (RFC 9110 section 10.2.3); the exact time is in the Close frame.
	if (retryAfterMs !== undefined) metadata.set('retry-after', String(Math.max(1, Math.ceil(retryAfterMs / 1000))));
	return { code: code === 'OK' ? status.OK : CODE_NUMBER[code], details: message, metadata };
}

export function statusOfError({ code, reason, message, metadata }: GpuaasError): StatusObject {
	const retryAfterS = Number(metadata['retry-after'] ?? Number.NaN);
	const retryAfter = Number.isFinite(retryAfterS) ? { retryAfterMs: retryAfterS * 1000 } : {};
	return statusObject({ code, reason, message, ...retryAfter });
}

interface Call {
	getAuthContext(): { readonly sslPeerCertificate?: { readonly raw: Buffer } };
	getPeer(): string;
}

/** Undefined when the connection has no verified client certificate, which the TLS options make impossible. */
export function leafOf(call: Call): Uint8Array | undefined {
	const raw = call.getAuthContext().sslPeerCertificate?.raw;
	// A copy: `raw` may be a view of a larger pool that lives as long as the stream.
	return raw === undefined ? undefined : new Uint8Array(raw);
}

/**
 * Connects a bidirectional call with whoever accepts it. `cut` destroys the connection of a peer: grpc-js can only end
 * a stream in agreement with the other side.
 */
export function serveStream<In, Out>(
	call: ServerDuplexStream<In, Out>,
	accept: (stream: ServerStream<Out>) => StreamListener<In>,
	cut: (peer: string) => void,
): void {
	const leafDer = leafOf(call);
	const peer = call.getPeer();
	let writable = true;
	// grpc-js takes an `error` event as the status to end with, after all that was written.
	const end = (reason: StreamStatus) => {
		if (!writable) return;
		writable = false;
		call.emit('error', statusObject(reason));
	};
	if (leafDer === undefined) {
		end({ code: 'UNAUTHENTICATED', reason: 'UNAUTHENTICATED', message: 'the connection has no client certificate' });
		return;
	}
	const listener = accept({
		peer,
		leafDer,
		send: (frame) => writable && call.write(frame),
		end,
		destroy: () => cut(peer),
		pause: () => void call.pause(),
		resume: () => void call.resume(),
	});
	call.on('data', (frame: In) => listener.onFrame(frame));
	call.on('drain', () => listener.onWritable());
	call.on('end', () => listener.onEnd());
	call.once('close', () => {
		writable = false;
		listener.onClosed();
	});
}
