import { subscribe } from 'node:diagnostics_channel';
import type { ClientHttp2Session, ClientHttp2Stream } from 'node:http2';
import type { DescService } from '@bufbuild/protobuf';
import { type Client, Code, ConnectError, createClient, type Interceptor } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { CODE_NUMBER, type ErrorCode, GpuaasError } from '../kit/error.ts';
import { uuidv7 } from '../kit/ids.ts';
import { ErrorInfoSchema } from '../proto/gen/google/rpc/error_details_pb.ts';
import type { Arguments } from './command.ts';
import { type Context, pickContext } from './contexts.ts';
import { withDirectStreams } from './direct-streams.ts';
import type { Io } from './io.ts';
import { ApiSessions } from './sessions.ts';

/** One command's connection to its control plane: the context's address, trust and key, and one correlation id. */
export interface Api {
	readonly context: Context & { readonly name: string };
	readonly correlationId: string;
	client<S extends DescService>(service: S): Client<S>;
}

/** HTTP/2's 64 KiB would hold bulk output to 1.3 MB/s at 50 ms of round trip; a pipe has 2 MiB on its way. */
const STREAM_WINDOW_BYTES = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES = 8 * 1024 * 1024;

let isRaising = false;

/** Settings raise the windows of streams only; the transport keeps its connection to itself. Once a process. */
function raiseConnectionWindow(): void {
	if (isRaising) return;
	isRaising = true;
	const raised = new WeakSet<ClientHttp2Session>();
	subscribe('http2.client.stream.created', (message) => {
		const { session } = (message as { readonly stream: ClientHttp2Stream }).stream;
		if (session === undefined || session.destroyed || raised.has(session as ClientHttp2Session)) return;
		raised.add(session as ClientHttp2Session);
		// A stream may be asked for before its session has a connection, whose window this is.
		const raise = () => (session as ClientHttp2Session).setLocalWindowSize(CONNECTION_WINDOW_BYTES);
		if ((session as ClientHttp2Session).connecting) session.once('connect', raise);
		else raise();
	});
}

export async function connect(io: Io, args: Pick<Arguments, 'text'>): Promise<Api> {
	return apiOf(io, await pickContext(io, args.text('context')), undefined, args.text('approval'));
}

/** `bearer`: of a context that isn't stored yet; empty sends none. Else the stored key, or the login while it lasts. */
export function apiOf(io: Io, context: Context & { readonly name: string }, bearer?: string, approvalId?: string): Api {
	raiseConnectionWindow();
	const correlationId = uuidv7(io.clock.now(), io.rng);
	const headers: Interceptor = (next) => async (request) => {
		const credential = bearer ?? (await storedCredential(io, context));
		if (credential !== '') request.header.set('authorization', `Bearer ${credential}`);
		if (approvalId !== undefined) request.header.set('x-gpuaas-approval', approvalId);
		request.header.set('x-correlation-id', correlationId);
		return await next(request);
	};
	const baseUrl = context.address;
	const nodeOptions = { ca: context.caPem, settings: { initialWindowSize: STREAM_WINDOW_BYTES } };
	const sessionManager = new ApiSessions(baseUrl, {}, nodeOptions, io.clock);
	const base = createConnectTransport({ baseUrl, httpVersion: '2', sessionManager, interceptors: [headers] });
	const transport = withDirectStreams(base, sessionManager, { baseUrl, interceptors: [headers] });
	const convert = (error: unknown) => toGpuaasError(error, context, correlationId);
	const stronger = (error: GpuaasError) => stepUp(io, context, error);
	return {
		context,
		correlationId,
		client: (service) => converted(createClient(service, transport), convert, stronger),
	};
}

async function storedCredential(io: Io, context: Api['context']): Promise<string> {
	if (context.login === undefined) return context.key;
	// Loaded with a login only: it costs a command with a key nothing.
	return await (await import('./oidc/refresh.ts')).accessToken(io, context.name);
}

/** Whether the call may be sent again, because its caller has now proved more (RFC 9470). */
async function stepUp(io: Io, context: Api['context'], error: GpuaasError): Promise<boolean> {
	if (error.reason !== 'STEP_UP_REQUIRED' || context.login === undefined) return false;
	return await (await import('./oidc/step-up.ts')).stepUp(io, context.name, error);
}

/**
 * The same client, whose failures are GpuaasError. Outside the transport, because what an interceptor throws is wrapped
 * once more; streams fail while they are read.
 */
function converted<S extends DescService>(
	client: Client<S>,
	convert: (error: unknown) => GpuaasError,
	stronger: (error: GpuaasError) => Promise<boolean>,
): Client<S> {
	const methods: Record<string, unknown> = {};
	for (const [name, method] of Object.entries(client) as [string, (...args: unknown[]) => unknown][]) {
		methods[name] = (...args: unknown[]) => {
			const result = method(...args);
			if (result instanceof Promise) {
				return result.catch(async (error: unknown) => {
					const converted = convert(error);
					if (!(await stronger(converted))) throw converted;
					return await (method(...args) as Promise<unknown>).catch((again: unknown) => {
						throw convert(again);
					});
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
	// What kept us from calling at all: a login that has ended, say. Connect wraps it like a failure of the network.
	if (error.cause instanceof GpuaasError) return error.cause;
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

/** What `doctor` leaves out. */
export const SEE_DOCTOR = '; is the control plane running? gpuaas doctor looks into it';
/** Nobody heard the call, so no log has its correlation id. */
const NEVER_HEARD = /ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH/;

function unreachable(error: ConnectError, context: Context, correlationId: string): GpuaasError {
	const cause = `${error.rawMessage} ${error.cause instanceof Error ? error.cause.message : ''}`;
	const tls = /self.signed|unable to verify|CERT_|certificate/i.test(cause);
	// Nobody can tell from here which of the two it is.
	const ended = /certificate has expired|CERT_HAS_EXPIRED/i.test(cause);
	return new GpuaasError({
		code: 'UNAVAILABLE',
		reason: 'UNREACHABLE',
		message: ended
			? `${context.address} shows a certificate that has ended (${error.rawMessage}): this host's clock is ahead, or its CA has ended; then, on the host of the control plane: gpuaas ca renew`
			: tls
				? `${context.address} shows a certificate that this context doesn't trust (${error.rawMessage}); it may be another control plane: log in again only after checking`
				: `${context.address} can't be reached (${error.rawMessage})${SEE_DOCTOR}`,
		metadata: tls || NEVER_HEARD.test(cause) ? {} : { correlation_id: correlationId },
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
