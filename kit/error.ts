/**
 * The one error that crosses layers. `code` is the gRPC canonical code, `reason` a value of
 * gpuaas.common.v1.Reason without its prefix (stable, never reused), `message` says what happened, what it means
 * and what to do next. `cause` is logged and never sent. Expected outcomes (decisions, refusals) are unions, not errors.
 */
export type ErrorCode =
	| 'CANCELLED'
	| 'UNKNOWN'
	| 'INVALID_ARGUMENT'
	| 'DEADLINE_EXCEEDED'
	| 'NOT_FOUND'
	| 'ALREADY_EXISTS'
	| 'PERMISSION_DENIED'
	| 'RESOURCE_EXHAUSTED'
	| 'FAILED_PRECONDITION'
	| 'ABORTED'
	| 'OUT_OF_RANGE'
	| 'UNIMPLEMENTED'
	| 'INTERNAL'
	| 'UNAVAILABLE'
	| 'DATA_LOSS'
	| 'UNAUTHENTICATED';

/** gRPC status numbers (grpc/grpc doc/statuscodes.md); Connect uses the same ones. */
export const CODE_NUMBER: Readonly<Record<ErrorCode, number>> = {
	CANCELLED: 1,
	UNKNOWN: 2,
	INVALID_ARGUMENT: 3,
	DEADLINE_EXCEEDED: 4,
	NOT_FOUND: 5,
	ALREADY_EXISTS: 6,
	PERMISSION_DENIED: 7,
	RESOURCE_EXHAUSTED: 8,
	FAILED_PRECONDITION: 9,
	ABORTED: 10,
	OUT_OF_RANGE: 11,
	UNIMPLEMENTED: 12,
	INTERNAL: 13,
	UNAVAILABLE: 14,
	DATA_LOSS: 15,
	UNAUTHENTICATED: 16,
};

export interface ErrorFields {
	readonly code: ErrorCode;
	/** UPPER_SNAKE_CASE, one of gpuaas.common.v1.Reason (test/architecture checks each literal). */
	readonly reason: string;
	readonly message: string;
	/** Small public facts for programs: ids, limits, retry-after. Never secrets. */
	readonly metadata?: Readonly<Record<string, string>>;
	readonly cause?: unknown;
}

export class GpuaasError extends Error {
	override readonly name = 'GpuaasError';
	readonly code: ErrorCode;
	readonly reason: string;
	readonly metadata: Readonly<Record<string, string>>;

	constructor(fields: ErrorFields) {
		super(fields.message, fields.cause === undefined ? undefined : { cause: fields.cause });
		this.code = fields.code;
		this.reason = fields.reason;
		this.metadata = Object.freeze({ ...fields.metadata });
	}

	/** The only converter: what isn't ours becomes INTERNAL with a message that gives nothing away. */
	static from(thrown: unknown): GpuaasError {
		if (thrown instanceof GpuaasError) return thrown;
		return new GpuaasError({
			code: 'INTERNAL',
			reason: 'INTERNAL',
			message: 'an internal error occurred; look up the correlation id in the log of the control plane',
			cause: thrown,
		});
	}
}

/** `error.message` of anything that was thrown; for logs, never for replies. */
export function messageOf(thrown: unknown): string {
	return thrown instanceof Error ? thrown.message : String(thrown);
}
