import { CloseCode, CloseCodeSchema } from '../../proto/gen/gpuaas/link/v1/link_pb.ts';
import type { StreamStatus } from './stream.ts';

/** The gRPC status that goes with a typed close: for clients and proxies that don't read our frames. */
const UNKNOWN = { code: 'UNKNOWN', reason: 'INTERNAL' } as const;
const STATUS: Readonly<Record<number, Pick<StreamStatus, 'code' | 'reason'>>> = {
	[CloseCode.SUPERSEDED]: { code: 'ABORTED', reason: 'SESSION_SUPERSEDED' },
	[CloseCode.STALE_GENERATION]: { code: 'FAILED_PRECONDITION', reason: 'STALE_GENERATION' },
	[CloseCode.REVOKED]: { code: 'UNAUTHENTICATED', reason: 'CERTIFICATE_REVOKED' },
	[CloseCode.LOCKED]: { code: 'PERMISSION_DENIED', reason: 'NODE_LOCKED' },
	[CloseCode.SHUTTING_DOWN]: { code: 'UNAVAILABLE', reason: 'SHUTTING_DOWN' },
	[CloseCode.LEASE_EXPIRED]: { code: 'ABORTED', reason: 'LEASE_LOST' },
	[CloseCode.CERTIFICATE_EXPIRED]: { code: 'UNAUTHENTICATED', reason: 'CERTIFICATE_EXPIRED' },
	[CloseCode.PROTOCOL]: { code: 'INVALID_ARGUMENT', reason: 'INVALID_REQUEST' },
	[CloseCode.OVERLOADED]: { code: 'RESOURCE_EXHAUSTED', reason: 'TOO_MANY_HELLOS' },
};

/** `reason`: the exact one, where there is one; else that of the code. */
export function statusOfClose(code: CloseCode, message: string, retryAfterMs?: number, reason?: string): StreamStatus {
	const status = STATUS[code] ?? UNKNOWN;
	return {
		...status,
		reason: reason ?? status.reason,
		message,
		...(retryAfterMs === undefined ? {} : { retryAfterMs }),
	};
}

/** What an agent is told when its session is refused: it decides what to do by this code alone. */
const CODE_OF_REASON = {
	NODE_NOT_FOUND: CloseCode.REVOKED,
	NODE_RETIRED: CloseCode.REVOKED,
	NODE_LOCKED: CloseCode.LOCKED,
	STALE_GENERATION: CloseCode.STALE_GENERATION,
	SESSION_SUPERSEDED: CloseCode.SUPERSEDED,
} as const;

export function closeCodeOf(reason: keyof typeof CODE_OF_REASON): CloseCode {
	return CODE_OF_REASON[reason];
}

/** `SUPERSEDED`, for logs. */
export function closeName(code: CloseCode): string {
	return CloseCodeSchema.value[code]?.localName ?? String(code);
}
