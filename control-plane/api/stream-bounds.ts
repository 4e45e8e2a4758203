import { constants, type ServerHttp2Stream } from 'node:http2';
import type { Clock, Timer } from '../../kit/clock.ts';
import { GpuaasError } from '../../kit/error.ts';
import type { CallState } from './call-state.ts';
import type { ApiLimits } from './limits.ts';

/** What bounds a stream's beginning and end: between them it is as long as its use case lets it be. */

/**
 * Ends a stream whose call is over: one whose answer nobody reads, after as long as any answer may take; and one whose
 * caller keeps its half open after the answer, a grace later (RFC 9113 section 8.1: NO_ERROR, the answer counts).
 */
export function boundEnd(
	stream: ServerHttp2Stream,
	state: CallState,
	{ clock, limits }: { readonly clock: Clock; readonly limits: ApiLimits },
): void {
	let timer: Timer | undefined;
	const closeIn = (delayMs: number, code: number) => {
		timer?.cancel();
		if (!stream.closed && !stream.destroyed) timer = clock.setTimer(() => stream.close(code), delayMs);
	};
	state.over = () => {
		if (!stream.writableFinished) closeIn(limits.requestTimeoutMs, constants.NGHTTP2_CANCEL);
	};
	stream.once('finish', () => closeIn(limits.halfOpenGraceMs, constants.NGHTTP2_NO_ERROR));
	stream.once('close', () => timer?.cancel());
}

/**
 * The same messages, of which the first must come within `ms` and before `signal` aborts: until then nobody knows what
 * the stream is about, nor whether its caller may be there.
 */
export function firstWithin<T>(
	messages: AsyncIterable<T>,
	{ clock, signal, ms }: { readonly clock: Clock; readonly signal: AbortSignal; readonly ms: number },
): AsyncIterable<T> {
	const inner = messages[Symbol.asyncIterator]();
	const first = async () => {
		const { promise, reject } = Promise.withResolvers<never>();
		promise.catch(() => {});
		const leave = () => reject(signal.reason);
		const timer = clock.setTimer(() => reject(tooLate(ms)), ms);
		signal.addEventListener('abort', leave, { once: true });
		if (signal.aborted) leave();
		try {
			return await Promise.race([inner.next(), promise]);
		} finally {
			timer.cancel();
			signal.removeEventListener('abort', leave);
		}
	};
	let isFirst = true;
	const iterator: AsyncIterator<T> = {
		next() {
			if (!isFirst) return inner.next();
			isFirst = false;
			return first();
		},
	};
	return { [Symbol.asyncIterator]: () => iterator };
}

function tooLate(ms: number): GpuaasError {
	return new GpuaasError({
		code: 'DEADLINE_EXCEEDED',
		reason: 'TIMED_OUT',
		message: `no first message came within ${ms / 1000} s, so the stream was ended; open it when there is something to send`,
	});
}
