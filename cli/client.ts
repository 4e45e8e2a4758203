import type { DescService } from '@bufbuild/protobuf';
import { type Client, Code, ConnectError, createClient, type Interceptor } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { CODE_NUMBER, type ErrorCode, GpuaasError } from '../kit/error.ts';
import { uuidv7 } from '../kit/ids.ts';
import { ErrorInfoSchema } from '../proto/gen/google/rpc/error_details_pb.ts';
import type { Arguments } from './command.ts';
import { type Context, pickContext } from './contexts.ts';
import type { Io } from './io.ts';

/** One command's connection to its control plane: the context's address, trust and key, and one correlation id. */
export interface Api {
	readonly context: Context & { readonly name: string };
	readonly correlationId: string;
	client<S extends DescService>(service: S): Client<S>;
}

export async function connect(io: Io, args: Pick<Arguments, 'text'>): Promise<Api> {
	return apiOf(io, await pickContext(io, args.text('context')));
}

export function apiOf(io: Io, context: Context & { readonly name: string }): Api {
	const correlationId = uuidv7(io.clock.now(), io.rng);
	const headers: Interceptor = (next) => (request) => {
		request.header.set('authorization', `Bearer ${context.key}`);
		request.header.set('x-correlation-id', correlationId);
		return next(request);
	};
	const transport = createConnectTransport({
		baseUrl: context.address,
		httpVersion: '2',
		nodeOptions: { ca: context.caPem },
		interceptors: [headers],
	});
	const convert = (error: unknown) => toGpuaasError(error, context, correlationId);
	return { context, correlationId, client: (service) => converted(createClient(service, transport), convert) };
}

/**
 * The same client, whose failures are GpuaasError. Outside the transport, because what an interceptor throws is wrapped
 * once more; streams fail while they are read.
 */
function converted<S extends DescService>(client: Client<S>, convert: (error: unknown) => GpuaasError): Client<S> {
	const methods: Record<string, unknown> = {};
	for (const [name, method] of Object.entries(client) as [string, (...args: unknown[]) => unknown][]) {
		methods[name] = (...args: unknown[]) => {
			const result = method(...args);
			if (result instanceof Promise) {
				return result.catch((error: unknown) => {
					throw convert(error);
				});
			}
			return guarded(result as AsyncIterable<unknown>, convert);
		};
	}
	return methods as Client<S>;
}

async function* guarded<T>(messages: AsyncIterable<T>, convert: (error: unknown) => GpuaasError): AsyncIterable<T> {
	try {
		yield* messages;
	} catch (error) {
		throw convert(error);
	}
}

function toGpuaasError(thrown: unknown, context: Context, correlationId: string): GpuaasError {
	if (thrown instanceof GpuaasError) return thrown;
	const error = ConnectError.from(thrown);
	const info = error.findDetails(ErrorInfoSchema)[0];
	// Our listeners explain every refusal; what comes without an explanation comes from the transport.
	if (info === undefined && error.code !== Code.InvalidArgument && error.code !== Code.Unimplemented) {
		return unreachable(error, context, correlationId);
	}
	return new GpuaasError({
		code: codeName(error.code),
		reason: info?.reason ?? 'INTERNAL',
		message: error.rawMessage,
		metadata: { ...info?.metadata, correlation_id: correlationId },
		cause: error,
	});
}

function unreachable(error: ConnectError, context: Context, correlationId: string): GpuaasError {
	const cause = `${error.rawMessage} ${error.cause instanceof Error ? error.cause.message : ''}`;
	const tls = /self.signed|unable to verify|CERT_|certificate/i.test(cause);
	return new GpuaasError({
		code: 'UNAVAILABLE',
		reason: 'UNREACHABLE',
		message: tls
			? `${context.address} shows a certificate that this context doesn't trust (${error.rawMessage}); it may be another control plane: log in again only after checking`
			: `${context.address} can't be reached (${error.rawMessage}); is the control plane running? gpuaas doctor looks into it`,
		metadata: { correlation_id: correlationId },
		cause: error,
	});
}

function codeName(code: Code): ErrorCode {
	for (const [name, number] of Object.entries(CODE_NUMBER)) if (number === code) return name as ErrorCode;
	return 'UNKNOWN';
}

/** All items of a paged list, a page at a time, at most `itemsMax`. */
export async function collect<T, P extends { readonly nextPageToken: string }>(
	page: (pageToken: string) => Promise<P>,
	items: (response: P) => readonly T[],
	itemsMax: number,
): Promise<{ readonly items: readonly T[]; readonly more: boolean }> {
	const all: T[] = [];
	let pageToken = '';
	do {
		const response = await page(pageToken);
		all.push(...items(response));
		pageToken = response.nextPageToken;
	} while (pageToken !== '' && all.length < itemsMax);
	return { items: all.slice(0, itemsMax), more: pageToken !== '' || all.length > itemsMax };
}
