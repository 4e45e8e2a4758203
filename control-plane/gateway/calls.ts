import type { ServerHttp2Stream } from 'node:http2';
import type { TLSSocket } from 'node:tls';
import { Metadata, type ServerDuplexStream, type StatusObject, status } from '@grpc/grpc-js';
import { assert } from '../../kit/assert.ts';
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

/**
 * No public interface gives the HTTP/2 stream of a call, so it is named here, and a grpc-js that has it elsewhere is an
 * assertion.
 */
export function streamOf(call: object): ServerHttp2Stream {
	const { call: inner } = call as { readonly call?: { readonly stream?: ServerHttp2Stream } };
	const stream = inner?.stream;
	assert(typeof stream?.respond === 'function', 'grpc-js has the HTTP/2 stream of a call where it had it');
	return stream;
}

/**
 * Undefined when the connection has no verified client certificate, which the TLS options make impossible, or is gone. Only
 * its bytes: what grpc-js calls the auth context is the certificate written out field by field, which nobody reads here.
 */
export function leafOf(call: object): Uint8Array | undefined {
	const socket = streamOf(call).session?.socket as TLSSocket | undefined;
	const raw = socket?.authorized === true ? socket.getPeerX509Certificate()?.raw : undefined;
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
