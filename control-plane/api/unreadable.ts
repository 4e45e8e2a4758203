import type { IncomingMessage } from 'node:http';
import type { Http2ServerRequest } from 'node:http2';
import type { Duplex } from 'node:stream';
import { MethodOptions_IdempotencyLevel } from '@bufbuild/protobuf/wkt';
import { errorToJson } from '@connectrpc/connect/protocol-connect';
import { type ErrorCode, GpuaasError } from '../../kit/error.ts';
import { toConnectError } from './errors.ts';
import type { ApiMethod } from './methods.ts';

/**
 * Requests that no method ever sees: an unknown path, another HTTP method, a content type that we don't speak, headers
 * too long, bytes that are no HTTP. The framework answers them by a bare status; people get to hear here what was wrong
 * and what to send, as JSON like all our errors.
 */
export interface Unreadable {
	readonly status: number;
	/** Value of the `allow` header. */
	readonly allow?: string;
	readonly error: GpuaasError;
}

const JSON_TYPE = 'application/json';
/** As the framework tells its protocols apart; streams of the Connect protocol have types of their own. */
const UNARY_TYPE = /^application\/(?:json(?:; ?charset=utf-?8)?|proto|grpc(?:-web(?:-text)?)?(?:\+(?:proto|json))?)$/i;
const STREAM_TYPE =
	/^application\/(?:connect\+(?:json(?:; ?charset=utf-?8)?|proto)|grpc(?:-web(?:-text)?)?(?:\+(?:proto|json))?)$/i;

/** Why this request can't be read, from its head alone; undefined when it can, or when its path is unknown. */
export function unreadable(
	request: IncomingMessage | Http2ServerRequest,
	method: ApiMethod['method'] | undefined,
): Unreadable | undefined {
	if (method === undefined) return undefined;
	const mayGet = method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
	if (request.method === 'GET' && mayGet) return undefined;
	if (request.method !== 'POST') {
		const message = `${request.method} is not how this method is called; send POST with the request as its body`;
		return { status: 405, allow: mayGet ? 'GET, POST' : 'POST', error: misuse('UNIMPLEMENTED', message) };
	}
	if (method.methodKind === 'bidi_streaming' && request.httpVersionMajor < 2) {
		const message = 'this method streams both ways, which HTTP/1.1 cannot; call it over HTTP/2';
		return { status: 505, error: misuse('UNIMPLEMENTED', message) };
	}
	const isUnary = method.methodKind === 'unary';
	if ((isUnary ? UNARY_TYPE : STREAM_TYPE).test(request.headers['content-type'] ?? '')) return undefined;
	const wanted = isUnary ? 'application/json or application/proto' : 'application/connect+json or application/grpc';
	const message = `this content type is not understood here; send ${wanted}`;
	return { status: 415, error: misuse('INVALID_ARGUMENT', message) };
}

export const NO_SUCH_METHOD: Unreadable = {
	status: 404,
	error: misuse(
		'UNIMPLEMENTED',
		'there is no such method here; send POST /gpuaas.<noun>.v1.<Noun>Service/<Method> as in the API description',
	),
};

export const NO_URL: Unreadable = {
	status: 400,
	error: misuse('INVALID_ARGUMENT', 'the request target and host make no URL; nothing was done'),
};

export function headersTooLong(bytesMax: number): Unreadable {
	const message = `the headers are longer than ${bytesMax} bytes; nothing was done. Send less in them`;
	return { status: 431, error: misuse('RESOURCE_EXHAUSTED', message) };
}

/** What HTTP/1 and HTTP/2 responses have in common. */
interface PlainResponse {
	statusCode: number;
	setHeader(name: string, value: string): unknown;
	end(text: string): unknown;
}

export function answerUnreadable(response: PlainResponse, { status, allow, error }: Unreadable): void {
	response.statusCode = status;
	if (allow !== undefined) response.setHeader('allow', allow);
	response.setHeader('content-type', JSON_TYPE);
	response.end(bodyOf(error));
}

/** For bytes that Node's HTTP/1 parser refuses, before there is a request: the connection ends with it. */
export function answerBrokenHttp1(thrown: Error, socket: Duplex, headerBytesMax: number): void {
	const code = 'code' in thrown ? thrown.code : '';
	if (code === 'ECONNRESET' || !socket.writable) {
		socket.destroy();
		return;
	}
	const { status, error } = code === 'HPE_HEADER_OVERFLOW' ? headersTooLong(headerBytesMax) : BROKEN;
	const body = bodyOf(error);
	const head = `HTTP/1.1 ${status} ${status === 431 ? 'Request Header Fields Too Large' : 'Bad Request'}`;
	socket.end(
		`${head}\r\nconnection: close\r\ncontent-type: ${JSON_TYPE}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
	);
}

const BROKEN: Unreadable = {
	status: 400,
	error: misuse('INVALID_ARGUMENT', 'this is no HTTP request, or it took too long; nothing was done'),
};

function misuse(code: ErrorCode, message: string): GpuaasError {
	return new GpuaasError({ code, reason: 'INVALID_REQUEST', message });
}

function bodyOf(error: GpuaasError): string {
	return JSON.stringify(errorToJson(toConnectError(error), undefined));
}
