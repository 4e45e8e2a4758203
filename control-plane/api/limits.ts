import { assert } from '../../kit/assert.ts';
import { RateClass } from '../../proto/gen/gpuaas/common/v1/policy_pb.ts';

/** Every limit of the API listener, with its reason. Times are of the clock that the server is given. */
export interface ApiLimits {
	readonly connectionsMax: number;
	/** One address must not take all connections; an office behind one NAT must fit. */
	readonly connectionsPerAddressMax: number;
	readonly tlsHandshakeTimeoutMs: number;
	/** From a connection's start, or the end of a request, to the end of the next request's headers (HTTP/1). */
	readonly headersTimeoutMs: number;
	/** A connection without any request. */
	readonly connectionIdleTimeoutMs: number;
	/** From the headers of a request to the end of its body. */
	readonly requestBodyTimeoutMs: number;
	/** From the headers of a unary request to the last byte of its answer, however slowly it is read. */
	readonly requestTimeoutMs: number;
	/** HTTP/2 PING, and how much longer nothing may be heard: see kit/silence.ts. The command asks as often. */
	readonly pingPeriodMs: number;
	readonly pingTimeoutMs: number;
	/**
	 * Past these a request is answered by 431 on HTTP/1. On HTTP/2, and while its client doesn't know the limit yet, by 431
	 * too; from then on its stream ends with ENHANCE_YOUR_CALM, which gRPC and Connect clients read as RESOURCE_EXHAUSTED,
	 * because Node hands such a request to nobody who could answer. What can't be refused alone is one header above 64 KiB,
	 * the most that nghttp2 unpacks (NGHTTP2_HD_MAX_NV): the connection ends with COMPRESSION_ERROR, and all that was under
	 * way on it.
	 */
	readonly headerBytesMax: number;
	readonly headersMax: number;
	/** A task's argv and env (1 MiB) fit four times: JSON and base64 are longer than bytes. */
	readonly requestBytesMax: number;
	readonly responseBytesMax: number;
	/** Of one message of a stream in both directions: 128 KiB of data and what is around it. */
	readonly streamMessageBytesMax: number;
	readonly streamsPerConnectionMax: number;
	/** Receive windows, for uploads over long distances: 40 MB/s at 50 ms of round trip. */
	readonly streamWindowBytes: number;
	/** Of a connection that has opened a stream in both directions; before that it is HTTP/2's 64 KiB. */
	readonly connectionWindowBytes: number;
	/** CVE-2023-44487: streams that a client resets, sustained and at once. */
	readonly resetsPerSecondPerConnection: number;
	readonly resetsBurstPerConnection: number;
	/** Unary requests under way in the whole process; past it callers are told to come back. */
	readonly requestsInFlightMax: number;
	/** Login pages under way in the whole process: each may wait for a provider. */
	readonly loginsInFlightMax: number;
	/** Streams under way in the whole process, and of one principal: nobody alone keeps the others out. */
	readonly streamsInFlightMax: number;
	readonly streamsPerPrincipalMax: number;
	/** From the end of an answer to that of its request, when the caller keeps its half of the stream open. */
	readonly halfOpenGraceMs: number;
	/** The longest deadline that a client may ask for. */
	readonly deadlineMaxMs: number;
	/** All requests of one address, before anything of them is read. */
	readonly perAddress: Rate;
	/** Requests of one principal (of one address while anonymous), by the class of the method's policy. */
	readonly perPrincipal: Readonly<Record<'read' | 'write' | 'stream', Rate>>;
}

export interface Rate {
	readonly perSecond: number;
	readonly burst: number;
}

export const API_LIMITS_DEFAULT: ApiLimits = Object.freeze({
	connectionsMax: 2048,
	connectionsPerAddressMax: 256,
	tlsHandshakeTimeoutMs: 5000,
	headersTimeoutMs: 10_000,
	connectionIdleTimeoutMs: 120_000,
	requestBodyTimeoutMs: 30_000,
	requestTimeoutMs: 120_000,
	pingPeriodMs: 10_000,
	pingTimeoutMs: 5000,
	headerBytesMax: 16 * 1024,
	headersMax: 64,
	requestBytesMax: 4 * 1024 * 1024,
	responseBytesMax: 32 * 1024 * 1024,
	streamMessageBytesMax: 256 * 1024,
	streamsPerConnectionMax: 100,
	streamWindowBytes: 2 * 1024 * 1024,
	connectionWindowBytes: 4 * 1024 * 1024,
	resetsPerSecondPerConnection: 20,
	resetsBurstPerConnection: 100,
	requestsInFlightMax: 1024,
	loginsInFlightMax: 256,
	streamsInFlightMax: 2048,
	streamsPerPrincipalMax: 512,
	halfOpenGraceMs: 5000,
	deadlineMaxMs: 24 * 3_600_000,
	perAddress: { perSecond: 5000, burst: 10_000 },
	perPrincipal: {
		read: { perSecond: 3000, burst: 6000 },
		write: { perSecond: 3000, burst: 6000 },
		stream: { perSecond: 100, burst: 400 },
	},
});

/** The classes that this listener serves. */
export function rateOf(rate: RateClass): keyof ApiLimits['perPrincipal'] {
	if (rate === RateClass.STREAM) return 'stream';
	if (rate === RateClass.READ) return 'read';
	assert(rate === RateClass.WRITE, `rate class ${rate} belongs to another listener`);
	return 'write';
}
