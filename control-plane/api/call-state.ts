import type { Message } from '@bufbuild/protobuf';
import { type ContextKey, createContextKey, type HandlerContext } from '@connectrpc/connect';
import { assert } from '../../kit/assert.ts';
import type { Clock } from '../../kit/clock.ts';
import type { Logger } from '../../kit/log.ts';
import { ANONYMOUS, type CallAbout, type CallContext, type PrincipalActor } from '../app/iam/principal.ts';
import type { ApiMethod } from './methods.ts';

/** What one request has collected on its way through the chain; made by the server, carried in the context values. */
export class CallState {
	readonly correlationId: string;
	/** Address of the caller. */
	readonly peer: string;
	readonly startedAtMs: number;
	/** Of a two-person approval that the caller names. */
	readonly approvalId: string | undefined;
	actor: PrincipalActor = ANONYMOUS;
	/** Set by the gate. */
	method: ApiMethod | undefined;
	/** The decoded request, for the audit of refusals. */
	request: Message | undefined;
	readonly about: CallAbout = {};
	/** Ends the transport's stream; set by the server. */
	cut: (() => void) | undefined;
	/** See CallContext; set by whoever serves the stream without the framework. */
	push: ((message: Message) => Promise<void> | undefined) | undefined;
	/** Raises the receive window of the connection, for bulk; set by the server, on HTTP/2. */
	widen: (() => void) | undefined;
	/** Called when the call is over and only its answer is left to be read; set by the server, on HTTP/2. */
	over: (() => void) | undefined;

	constructor(correlationId: string, peer: string, startedAtMs: number, approvalId?: string) {
		this.correlationId = correlationId;
		this.peer = peer;
		this.startedAtMs = startedAtMs;
		this.approvalId = approvalId;
	}
}

export const CALL_STATE: ContextKey<CallState | undefined> = createContextKey<CallState | undefined>(undefined);

type Valued = Pick<HandlerContext, 'values'>;

export function stateOf({ values }: Valued): CallState {
	const state = values.get(CALL_STATE);
	assert(state !== undefined, 'every request has a call state');
	return state;
}

export interface CallTiming {
	readonly signal: AbortSignal;
	readonly timeoutMs: number | undefined;
}

export function callContext(state: CallState, clock: Clock, log: Logger, timing: CallTiming): CallContext {
	const requestId: unknown = state.request === undefined ? '' : Reflect.get(state.request, 'requestId');
	return {
		actor: state.actor,
		about: state.about,
		...(state.approvalId === undefined ? {} : { approvalId: state.approvalId }),
		...(state.cut === undefined ? {} : { cut: state.cut }),
		...(state.push === undefined ? {} : { push: state.push }),
		correlationId: state.correlationId,
		method: state.method?.policy.name ?? '',
		requestId: typeof requestId === 'string' ? requestId : '',
		peer: state.peer,
		deadlineMs: timing.timeoutMs === undefined ? Number.POSITIVE_INFINITY : clock.monotonic() + timing.timeoutMs,
		signal: timing.signal,
		log,
	};
}
