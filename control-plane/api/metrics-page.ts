import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { create, isMessage } from '@bufbuild/protobuf';
import {
	Code,
	ConnectError,
	type ContextValues,
	createHandlerContext,
	createMethodImplSpec,
	type HandlerContext,
	type Interceptor,
} from '@connectrpc/connect';
import { invokeUnaryImplementation } from '@connectrpc/connect/protocol';
import { assert } from '../../kit/assert.ts';
import type { Clock } from '../../kit/clock.ts';
import { CONTENT_TYPE } from '../../kit/exposition-text.ts';
import { acceptsGzip, compressed } from '../../kit/gzip.ts';
import { ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.ts';
import {
	GetProjectMetricsRequestSchema,
	GetProjectMetricsResponseSchema,
} from '../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { getProjectMetrics } from '../app/telemetry/get-project-metrics.ts';
import type { UseCaseDeps } from '../app/use-case.ts';
import { contextOf } from './routes.ts';
import { webHeaders } from './web-headers.ts';

/**
 * `GET /metrics/projects/ORGANIZATION/PROJECT` for the Prometheus of a tenant, which speaks plain HTTP with a bearer
 * token: the call GetProjectMetrics, through the same gate and interceptors as all calls, and its text as the body.
 */
export interface MetricsPageOptions {
	readonly requestGate: (context: HandlerContext) => Promise<void>;
	readonly interceptors: Interceptor[];
	readonly shutdownSignal: AbortSignal;
	/** Of what no interceptor saw. */
	readonly onFault: (values: ContextValues, thrown: unknown) => void;
}

type Request = IncomingMessage | Http2ServerRequest;
type Response = ServerResponse | Http2ServerResponse;
export type MetricsPages = (request: Request, response: Response, values: ContextValues) => boolean;

const PATH = /^\/metrics\/projects\/([^/]{1,63})\/([^/]{1,63})$/;
const TEXT = 'text/plain; charset=utf-8';

/** False for a path that is none of these pages; else it answers. */
export function metricsPages(deps: UseCaseDeps, options: MetricsPageOptions): MetricsPages {
	return (request, response, values) => {
		const [path = '', query = ''] = (request.url ?? '').split('?', 2);
		const [, organization, project] = PATH.exec(path) ?? [];
		if (organization === undefined || project === undefined) return false;
		const asked = new URLSearchParams(query);
		const message = create(GetProjectMetricsRequestSchema, {
			scope: `organizations/${organization}/projects/${project}`,
			names: asked.get('names') ?? '',
			shard: numberOf(asked.get('shard')),
			shards: numberOf(asked.get('of')),
		});
		void serve(deps, options, { request, response, values, message });
		return true;
	};
}

interface Asked {
	readonly request: Request;
	readonly response: Response;
	readonly values: ContextValues;
	readonly message: Parameters<typeof getProjectMetrics.run>[2];
}

/** Never rejects. */
async function serve(deps: UseCaseDeps, options: MetricsPageOptions, asked: Asked): Promise<void> {
	const { request, response, values } = asked;
	if (request.method !== 'GET' && request.method !== 'HEAD') {
		response.setHeader('allow', 'GET, HEAD');
		await answer(asked, 405, TEXT, 'this page can only be read\n');
		return;
	}
	const gone = new AbortController();
	response.once('close', () => gone.abort());
	const spec = createMethodImplSpec(getProjectMetrics.method, (message, context) =>
		getProjectMetrics.run(deps, contextOf(deps, message, context), message),
	);
	assert(spec.kind === 'unary', 'a page is one answer');
	const context = createHandlerContext({
		service: spec.method.parent,
		method: spec.method,
		requestMethod: request.method,
		protocolName: 'http',
		url: `https://own.invalid${request.url}`,
		shutdownSignal: options.shutdownSignal,
		requestSignal: gone.signal,
		requestHeader: webHeaders(request),
		contextValues: values,
	});
	try {
		await options.requestGate(context);
		const page = await invokeUnaryImplementation(spec, context, asked.message, options.interceptors);
		assert(isMessage(page, GetProjectMetricsResponseSchema), 'the call answers with a page');
		await answer(asked, 200, CONTENT_TYPE.text, page.text);
		// The turn of the page is over, and its text let go, when it has left; or after a while, for who reads slowly.
		await left(deps.clock, gone.signal);
	} catch (thrown) {
		if (!(thrown instanceof ConnectError)) options.onFault(values, thrown);
		const error = ConnectError.from(thrown, Code.Internal);
		for (const [name, value] of error.metadata) response.setHeader(name, value);
		const reason = error.findDetails(ErrorInfoSchema)[0]?.reason ?? 'INTERNAL';
		const said = thrown instanceof ConnectError ? error.rawMessage : 'internal error';
		await answer(asked, STATUS.get(error.code) ?? 500, TEXT, `${reason}: ${said}\n`);
	} finally {
		context.abort();
	}
}

const LEAVES_WITHIN_MS = 30_000;

function left(clock: Clock, closed: AbortSignal): Promise<void> {
	if (closed.aborted) return Promise.resolve();
	return new Promise((resolve) => {
		const timer = clock.setTimer(() => resolve(), LEAVES_WITHIN_MS);
		closed.addEventListener('abort', () => {
			timer.cancel();
			resolve();
		});
	});
}

/** A number that no part has, where it is none: the contract refuses it. */
function numberOf(text: string | null): number {
	if (text === null) return 0;
	return /^\d{1,4}$/.test(text) ? Number(text) : 0xffff_ffff;
}

const STATUS: ReadonlyMap<Code, number> = new Map([
	[Code.InvalidArgument, 400],
	[Code.FailedPrecondition, 400],
	[Code.Unauthenticated, 401],
	[Code.PermissionDenied, 403],
	[Code.NotFound, 404],
	[Code.ResourceExhausted, 429],
	[Code.Unavailable, 503],
	[Code.DeadlineExceeded, 504],
]);

async function answer({ request, response }: Asked, status: number, type: string, body: string): Promise<void> {
	response.statusCode = status;
	response.setHeader('content-type', type);
	response.setHeader('vary', 'accept-encoding');
	const isHead = request.method === 'HEAD';
	const isWanted = !isHead && acceptsGzip(header(request, 'accept-encoding'));
	// What can't be packed is sent as it is.
	const packed = isWanted ? await compressed(body)?.catch(() => undefined) : undefined;
	if (packed !== undefined) response.setHeader('content-encoding', 'gzip');
	const end: (data: string | Buffer) => unknown = response.end.bind(response);
	if (!response.destroyed) end(isHead ? '' : (packed ?? body));
}

function header({ headers }: Request, name: string): string | undefined {
	const sent = headers[name];
	return Array.isArray(sent) ? sent.join(', ') : sent;
}
