import type { DescMessage, MessageInitShape } from '@bufbuild/protobuf';
import { type Code, ConnectError } from '@connectrpc/connect';
import { CODE_NUMBER, type ErrorCode, GpuaasError } from '../../kit/error.ts';
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from '../../proto/gen/google/rpc/error_details_pb.ts';

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

/** What the framework itself throws (bad bytes, deadlines, shutdown), in our words. */
export function fromThrown(thrown: unknown): GpuaasError {
	if (!(thrown instanceof ConnectError)) return GpuaasError.from(thrown);
	const code = CODE_NAMES.get(thrown.code) ?? 'UNKNOWN';
	const reason = FRAMEWORK_REASONS[code] ?? 'INVALID_REQUEST';
	return new GpuaasError({ code, reason, message: thrown.rawMessage, cause: thrown });
}

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
