import type { Message } from '@bufbuild/protobuf';
import type { ConnectRouter, HandlerContext } from '@connectrpc/connect';
import type { CallContext } from '../app/iam/principal.ts';
import type { UseCaseDeps } from '../app/use-case.ts';
import { callContext, stateOf } from './call-state.ts';
import type { ApiMethod } from './methods.ts';

/** Registers each method of the table. A handler only hands the request and its context to its use case. */
export function registerRoutes(
	router: ConnectRouter,
	methods: ReadonlyMap<string, ApiMethod>,
	deps: UseCaseDeps,
): void {
	const contextOf = (request: Message, context: HandlerContext): CallContext => {
		const state = stateOf(context);
		state.request = request;
		const timing = { signal: context.signal, timeoutMs: context.timeoutMs() };
		return callContext(state, deps.clock, deps.log, timing);
	};
	for (const { useCase } of methods.values()) {
		if (useCase.kind === 'stream') {
			router.rpc(useCase.method, (request, context) => useCase.run(deps, contextOf(request, context), request));
		} else {
			router.rpc(useCase.method, (request, context) => useCase.run(deps, contextOf(request, context), request));
		}
	}
}
