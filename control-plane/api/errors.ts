import type { DescMessage, MessageInitShape } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { CODE_NUMBER, type ErrorCode, GpuaasError } from '../../kit/error.ts';
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.ts';
import { wwwAuthenticate } from './challenge.ts';

/**
 * Errors as callers get them (AIP-193): code, message, `google.rpc.ErrorInfo{reason, domain, metadata}`, and where they
 * apply BadRequest and RetryInfo. A cause never leaves the process.
 */
export const ERROR_DOMAIN = 'gpuaas';

/** Seconds, in an error's metadata: becomes the `retry-after` header and RetryInfo. */
export const RETRY_AFTER = 'retry-after';

export interface FieldViolation {
	readonly field: string;
	readonly description: string;
}

export class InvalidRequest extends GpuaasError {
	readonly violations: readonly FieldViolation[];

	constructor(violations: readonly FieldViolation[]) {
		const shown = violations.slice(0, 5).map(({ field, description }) => `${field}: ${description}`);
		const more = violations.length > 5 ? `; and ${violations.length - 5} more` : '';
		super({
			code: 'INVALID_ARGUMENT',
			reason: 'INVALID_REQUEST',
			message: `the request breaks the contract and nothing was done; correct ${shown.join('; ')}${more}`,
		});
		this.violations = violations;
	}
}

const CODE_NAMES = new Map(Object.entries(CODE_NUMBER).map(([name, number]) => [number, name as ErrorCode]));

/**
 * What the framework itself throws (bad bytes, deadlines, shutdown), in our words. Until the request was read it is the
 * caller's bytes that are wrong, also where the framework calls that an internal error.
 */
export function fromThrown(thrown: unknown, isRequestRead = true): GpuaasError {
	if (!(thrown instanceof ConnectError)) return GpuaasError.from(thrown);
	const given = CODE_NAMES.get(thrown.code) ?? 'UNKNOWN';
	const isUnreadable = !isRequestRead && (given === 'INTERNAL' || given === 'UNKNOWN' || given === 'DATA_LOSS');
	const code = isUnreadable ? 'INVALID_ARGUMENT' : given;
	const reason = FRAMEWORK_REASONS[code] ?? 'INVALID_REQUEST';
	const message = isRequestRead ? thrown.rawMessage : misreadMessage(code, thrown.rawMessage);
	return new GpuaasError({ code, reason, message, cause: thrown });
}

function misreadMessage(code: ErrorCode, what: string): string {
	const advice = MISREAD_ADVICE[code];
	return advice === undefined ? what : `the request could not be read and nothing was done: ${what}; ${advice}`;
}

const MISREAD_ADVICE: Readonly<Partial<Record<ErrorCode, string>>> = {
	INVALID_ARGUMENT:
		'correct it: the body is JSON in UTF-8 with the field names of the API description, or protobuf of that description',
	RESOURCE_EXHAUSTED: 'send less in one request: trying the same again cannot work',
	UNIMPLEMENTED: 'send it without that',
};

/** Not a deadline, a shutdown or a caller who left: those end a call whatever its bytes are. */
export function isMisread({ code }: ConnectError): boolean {
	return MISREAD_CODES.has(code);
}

const MISREAD_CODES: ReadonlySet<Code> = new Set([
	Code.InvalidArgument,
	Code.ResourceExhausted,
	Code.Unimplemented,
	Code.Internal,
	Code.Unknown,
	Code.DataLoss,
]);

const FRAMEWORK_REASONS: Readonly<Partial<Record<ErrorCode, string>>> = {
	INTERNAL: 'INTERNAL',
	UNKNOWN: 'INTERNAL',
	UNAVAILABLE: 'SHUTTING_DOWN',
	CANCELLED: 'CANCELLED',
	ABORTED: 'CANCELLED',
	DEADLINE_EXCEEDED: 'TIMED_OUT',
};

/** The correlation id is in the response's headers already: the server sets it on every answer. */
export function toConnectError(error: GpuaasError): ConnectError {
	const retryAfter = error.metadata[RETRY_AFTER];
	const headers = new Headers();
	if (retryAfter !== undefined) headers.set('retry-after', retryAfter);
	const challenge = wwwAuthenticate(error);
	if (challenge !== undefined) headers.set('www-authenticate', challenge);
	const details: Detail[] = [
		detail(ErrorInfoSchema, { reason: error.reason, domain: ERROR_DOMAIN, metadata: { ...error.metadata } }),
	];
	if (retryAfter !== undefined) details.push(detail(RetryInfoSchema, { retryDelay: { seconds: BigInt(retryAfter) } }));
	if (error instanceof InvalidRequest)
		details.push(
			detail(BadRequestSchema, { fieldViolations: error.violations.map((violation) => ({ ...violation })) }),
		);
	return new ConnectError(error.message, codeOf(error), headers, details);
}

function codeOf(error: GpuaasError): Code {
	return CODE_NUMBER[error.code] as Code;
}

interface Detail {
	readonly desc: DescMessage;
	readonly value: MessageInitShape<DescMessage>;
}

function detail<D extends DescMessage>(desc: D, value: MessageInitShape<D>): Detail {
	return { desc, value };
}
