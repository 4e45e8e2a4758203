import { ConnectError, type Interceptor } from '@connectrpc/connect';
import { GpuaasError } from '../../../kit/error.ts';
import { type Logger, withCorrelation } from '../../../kit/log.ts';
import { recordRefusal } from '../../app/record-refusal.ts';
import type { UseCaseDeps } from '../../app/use-case.ts';
import { type CallState, type CallTiming, callContext, stateOf } from '../call-state.ts';
import { challenged } from '../challenge.ts';
import { fromThrown, toConnectError } from '../errors.ts';
import type { ApiLimits } from '../limits.ts';
import type { ApiMetrics } from '../metrics.ts';

/**
 * The outermost interceptor: whatever happens inside, the caller gets one of our errors with its correlation id, the
 * cause goes to the log, refusals to the audit log, and time and code to monitoring. It also bounds how many requests
 * are under way.
 */
export class Outcome {
	readonly #deps: UseCaseDeps;
	readonly #metrics: ApiMetrics;
	readonly #limits: ApiLimits;
	readonly #inFlight = { unary: 0, stream: 0 };
	readonly #streamsOf = new Map<string, number>();

	constructor(deps: UseCaseDeps, metrics: ApiMetrics, limits: ApiLimits) {
		this.#deps = deps;
		this.#metrics = metrics;
		this.#limits = limits;
	}

	readonly interceptor: Interceptor = (next) => async (request) => {
		const state = stateOf({ values: request.contextValues });
		const kind = request.stream ? 'stream' : 'unary';
		const timing: CallTiming = { signal: request.signal, timeoutMs: undefined };
		const max = kind === 'stream' ? this.#limits.streamsInFlightMax : this.#limits.requestsInFlightMax;
		if (this.#inFlight[kind] >= max) throw await this.refuse(state, overloaded(), timing);
		const who = state.actor.id === '' ? `address ${state.peer}` : state.actor.id;
		const own = this.#streamsOf.get(who) ?? 0;
		if (kind === 'stream' && own >= this.#limits.streamsPerPrincipalMax)
			throw await this.refuse(state, tooManyStreams(own), timing);
		this.#inFlight[kind] += 1;
		if (kind === 'stream') this.#streamsOf.set(who, own + 1);
		let isOver = false;
		const over = (code: string) => {
			if (isOver) return;
			isOver = true;
			this.#inFlight[kind] -= 1;
			if (kind === 'stream') this.#leave(who);
			this.#finish(state, code);
		};
		try {
			const response = await withCorrelation(state.correlationId, () => next(request));
			if (!response.stream) {
				over('OK');
				return response;
			}
			return { ...response, message: this.#events(response.message, state, timing, over) };
		} catch (error) {
			over(codeOf(error, request.signal, state));
			throw await this.#convert(state, error, timing);
		}
	};

	/** For errors before the interceptors run: logs, audits, counts, and gives what to throw. */
	async refuse(state: CallState, error: unknown, timing: CallTiming): Promise<ConnectError> {
		this.#finish(state, codeOf(error, timing.signal, state));
		return await this.#convert(state, error, timing);
	}

	/** For requests that cannot be read: logs and counts. There is nothing yet that an audit could name. */
	misread(state: CallState, error: GpuaasError): void {
		this.#finish(state, error.code);
		logError(this.#deps.log, state, error);
	}

	async *#events<T>(
		events: AsyncIterable<T>,
		state: CallState,
		timing: CallTiming,
		over: (code: string) => void,
	): AsyncGenerator<T> {
		try {
			yield* events;
			over('OK');
		} catch (error) {
			over(codeOf(error, timing.signal, state));
			throw await this.#convert(state, error, timing);
		} finally {
			// The caller stopped reading.
			over('CANCELLED');
		}
	}

	#leave(who: string): void {
		const left = (this.#streamsOf.get(who) ?? 1) - 1;
		if (left === 0) this.#streamsOf.delete(who);
		else this.#streamsOf.set(who, left);
	}

	#finish(state: CallState, code: string): void {
		state.over?.();
		const seconds = (this.#deps.clock.monotonic() - state.startedAtMs) / 1000;
		this.#metrics.finished(state.method?.policy.name ?? 'unknown', code, seconds);
	}

	async #convert(state: CallState, thrown: unknown, timing: CallTiming): Promise<ConnectError> {
		const { clock, log } = this.#deps;
		const error = challenged(ours(thrown, timing.signal, state), state.actor, this.#deps.login);
		logError(log, state, error);
		if (state.method !== undefined) {
			const ctx = callContext(state, clock, log, timing);
			await recordRefusal(this.#deps, ctx, state.method.policy, state.request, error);
		}
		return toConnectError(error);
	}
}

/** When the request's own signal ended it, that is the reason, whatever the code inside made of it. */
function ours(thrown: unknown, signal: AbortSignal, state: CallState): GpuaasError {
	if (thrown instanceof GpuaasError) return thrown;
	const reason: unknown = signal.aborted ? signal.reason : undefined;
	return fromThrown(reason instanceof ConnectError ? reason : thrown, state.request !== undefined);
}

function codeOf(thrown: unknown, signal: AbortSignal, state: CallState): string {
	return ours(thrown, signal, state).code;
}

function logError(log: Logger, state: CallState, error: GpuaasError): void {
	const fields = { method: state.method?.policy.name, actor: state.actor.id, reason: error.reason, error };
	const isOurs = error.code === 'INTERNAL' || error.code === 'UNKNOWN' || error.code === 'DATA_LOSS';
	withCorrelation(state.correlationId, () =>
		isOurs ? log.error('a request failed', fields) : log.debug('a request was refused', fields),
	);
}

function tooManyStreams(count: number): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'RATE_LIMITED',
		message: `you have ${count} streams open, as many as one caller may; nothing was done. Try again when some have ended`,
		metadata: { 'retry-after': '5' },
	});
}

export function overloaded(): GpuaasError {
	return new GpuaasError({
		code: 'RESOURCE_EXHAUSTED',
		reason: 'RATE_LIMITED',
		message: 'this control plane has as many requests under way as it takes; nothing was done. Try again in a second',
		metadata: { 'retry-after': '1' },
	});
}
