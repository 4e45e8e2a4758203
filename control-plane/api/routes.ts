import type { Message } from '@bufbuild/protobuf';
import { type ConnectRouter, createMethodImplSpec, type HandlerContext } from '@connectrpc/connect';
import type { CallContext } from '../app/iam/principal.ts';
import type { BidiUseCase, UseCaseDeps } from '../app/use-case.ts';
import { callContext, stateOf } from './call-state.ts';
import { type DirectHandler, type DirectOptions, directHandler } from './direct-streams.ts';
import type { ApiLimits } from './limits.ts';
import type { ApiMethod } from './methods.ts';
import { firstWithin } from './stream-bounds.ts';

/** Registers each method of the table. A handler only hands the request and its context to its use case. */
export function registerRoutes(
	router: ConnectRouter,
	methods: ReadonlyMap<string, ApiMethod>,
	deps: UseCaseDeps,
	limits: ApiLimits,
): void {
	for (const { useCase } of methods.values()) {
		if (useCase.kind === 'bidi') {
			const { run, options } = bidiRoute(useCase, deps, limits);
			router.rpc(useCase.method, run, options);
		} else if (useCase.kind === 'stream') {
			router.rpc(useCase.method, (request, context) => useCase.run(deps, contextOf(deps, request, context), request));
		} else {
			router.rpc(useCase.method, (request, context) => useCase.run(deps, contextOf(deps, request, context), request));
		}
	}
}

/** Streams in both directions past the framework, by path; what they don't serve goes to the routes above. */
export function directRoutes(
	methods: ReadonlyMap<string, ApiMethod>,
	deps: UseCaseDeps,
	limits: ApiLimits,
	options: Omit<DirectOptions, 'readMaxBytes'>,
): ReadonlyMap<string, DirectHandler> {
	const direct = new Map<string, DirectHandler>();
	for (const [name, { useCase }] of methods) {
		if (useCase.kind !== 'bidi') continue;
		const { run, options: own } = bidiRoute(useCase, deps, limits);
		direct.set(`/${name}`, directHandler(createMethodImplSpec(useCase.method, run), { ...options, ...own }));
	}
	return direct;
}

type BidiRun = (requests: AsyncIterable<Message>, context: HandlerContext) => AsyncIterable<Message>;

/**
 * Answers aren't compressed: what a terminal shows would be deflated message by message, at most of what a byte costs,
 * and lengths of compressed secrets beside chosen text tell of the secrets (CRIME).
 */
const NEVER_COMPRESSED_BYTES = 0xffff_ffff;

function bidiRoute(useCase: BidiUseCase, deps: UseCaseDeps, limits: ApiLimits) {
	const run: BidiRun = (requests, context) => {
		// Whoever comes here is known and may call it: from now on they may send as fast as their distance asks for.
		stateOf(context).widen?.();
		const { clock } = deps;
		const patient = firstWithin(requests, { clock, signal: context.signal, ms: limits.requestBodyTimeoutMs });
		return useCase.run(deps, (first) => contextOf(deps, first, context), patient);
	};
	const readMaxBytes = Math.min(limits.requestBytesMax, limits.streamMessageBytesMax);
	return { run, options: { compressMinBytes: NEVER_COMPRESSED_BYTES, readMaxBytes } };
}

/** Notes the request for the audit of refusals, and gives its call. */
export function contextOf(deps: UseCaseDeps, request: Message, context: HandlerContext): CallContext {
	const state = stateOf(context);
	state.request = request;
	return callContext(state, deps.clock, deps.log, { signal: context.signal, timeoutMs: context.timeoutMs() });
}
