import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import {
	type ConnectRouter,
	type ConnectRouterOptions,
	type ContextValues,
	createConnectRouter,
} from '@connectrpc/connect';
import {
	compressionBrotli,
	compressionGzip,
	universalRequestFromNodeRequest,
	universalResponseToNodeResponse,
} from '@connectrpc/connect-node';

/**
 * Requests of node:http and node:http2 for the framework's router: what its own `connectNodeAdapter` does, which writes
 * an answer that could not be sent with its stack to the console, past the log. A caller who leaves while they are
 * answered is no news, and as often as they like. Called by the API and enrollment listeners.
 */
export type Request = IncomingMessage | Http2ServerRequest;
export type Response = ServerResponse | Http2ServerResponse;

export interface AdapterOptions extends ConnectRouterOptions {
	readonly routes: (router: ConnectRouter) => void;
	readonly contextValues: (request: Request) => ContextValues;
	/** For paths that are no method. */
	readonly fallback: (request: Request, response: Response) => void;
	/** An answer did not get out; `isGone`: because its caller has left. Must not throw. */
	readonly onUnsent: (request: Request, error: unknown, isGone: boolean) => void;
}

/** What it returns throws on a request target or authority that makes no URL. */
export function connectAdapter(options: AdapterOptions): (request: Request, response: Response) => void {
	const router = createConnectRouter({ acceptCompression: [compressionGzip, compressionBrotli], ...options });
	options.routes(router);
	const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
	return (request, response) => {
		const handler = handlers.get(request.url?.split('?', 1)[0] ?? '');
		if (handler === undefined) {
			options.fallback(request, response);
			return;
		}
		const asked = universalRequestFromNodeRequest(request, response, undefined, options.contextValues(request));
		handler(asked)
			.then((answer) => universalResponseToNodeResponse(answer, response))
			.catch((error: unknown) => options.onUnsent(request, error, isGone(request, response)));
	};
}

function isGone({ socket }: Request, response: Response): boolean {
	if ('stream' in response) return response.stream.destroyed || response.stream.closed;
	// Its socket goes first, and the answer hears of it later.
	return response.destroyed || socket.destroyed;
}
