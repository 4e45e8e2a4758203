import { fromBinary } from '@bufbuild/protobuf';
import { CODE_NUMBER, type ErrorCode, GpuaasError } from '../../kit/error.ts';
import { ErrorInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.ts';

/** An answer of the Connect protocol (connectrpc.com/docs/protocol): an error is a JSON object beside an HTTP status. */
export interface CallAnswer {
	readonly status: number;
	readonly body: Uint8Array;
}

export function errorOfAnswer({ status, body }: CallAnswer): GpuaasError {
	const fields = record(json(body));
	const code = codeOf(fields.code);
	const message = typeof fields.message === 'string' ? fields.message : `HTTP status ${status} without an error in it`;
	const info = errorInfo(fields.details);
	const reason = info?.reason ?? (code === 'UNAVAILABLE' ? 'UNREACHABLE' : 'INTERNAL');
	return new GpuaasError({ code, reason, message, metadata: { ...info?.metadata } });
}

function json(body: Uint8Array): unknown {
	try {
		return JSON.parse(Buffer.from(body).toString('utf8'));
	} catch {
		return undefined;
	}
}

function record(value: unknown): Record<string, unknown> {
	return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {};
}

function codeOf(text: unknown): ErrorCode {
	const upper = typeof text === 'string' ? text.toUpperCase() : '';
	return isCode(upper) ? upper : 'UNAVAILABLE';
}

function isCode(text: string): text is ErrorCode {
	return Object.hasOwn(CODE_NUMBER, text);
}

function errorInfo(details: unknown) {
	for (const detail of Array.isArray(details) ? details : []) {
		const { type, value } = record(detail);
		if (type !== ErrorInfoSchema.typeName || typeof value !== 'string') continue;
		return fromBinary(ErrorInfoSchema, new Uint8Array(Buffer.from(value, 'base64')));
	}
	return undefined;
}
