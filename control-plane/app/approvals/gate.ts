import { timingSafeEqual } from 'node:crypto';
import type { DescMessage, DescMethodUnary, MessageShape } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import type { ApprovalRow } from '../../store/port/approvals.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AuditEvent } from '../audit/event.ts';
import type { CheckedPolicy } from '../iam/method-policy.ts';
import type { CallContext } from '../iam/principal.ts';
import { approvalDigest } from './digest.ts';

/**
 * Lets an approval stand in for a step-up, in app/use-case's wrapper: checked with the first decision, consumed in the
 * unit of the call itself, so that it counts once and only for a call that happened. Asked only when the decision would
 * else be STEP_UP_REQUIRED.
 */
export interface ApprovalGate {
	check(tx: Tx): Plan<void>;
	consume(tx: Tx): Plan<void>;
	/** For a call that was answered before under the same request id: used or not, it covers the same request. */
	again(tx: Tx): Plan<void>;
	/** The call's record, naming the approval if it was needed. */
	noted(event: AuditEvent): AuditEvent;
}

interface ApprovableCall<Request> {
	readonly ctx: CallContext;
	readonly request: Request;
	readonly nowMs: number;
}

export function approvalGate<I extends DescMessage>(
	{ input }: DescMethodUnary<I, DescMessage>,
	policy: CheckedPolicy,
	{ ctx, request, nowMs }: ApprovableCall<MessageShape<I>>,
): ApprovalGate | undefined {
	const { approvalId, actor } = ctx;
	if (approvalId === undefined || !policy.stepUp) return undefined;
	let isUsed = false;
	function* ownRow(tx: Tx): Plan<ApprovalRow> {
		const row = yield* tx.approvals.get(approvalId ?? '');
		if (row === undefined || row.requesterId !== actor.id) throw approvalInvalid('it is unknown, or not yours');
		return row;
	}
	function* check(tx: Tx): Plan<void> {
		const row = yield* ownRow(tx);
		const why = unusable(row, nowMs);
		if (why !== undefined) throw approvalInvalid(why);
		assertCovers(row);
	}
	function assertCovers(row: ApprovalRow): void {
		const { requesterId, expiresAtMs } = row;
		const digest = approvalDigest({ method: policy.name, input, request, requesterId, expiresAtMs });
		if (!timingSafeEqual(digest, row.digestSha256)) throw approvalInvalid('it is for another request than this one');
	}
	return {
		check,
		*consume(tx) {
			yield* check(tx);
			if ((yield* tx.approvals.consume(approvalId, nowMs)) === undefined) throw approvalInvalid('it was used');
			isUsed = true;
		},
		*again(tx) {
			const row = yield* ownRow(tx);
			if (row.state !== 'consumed') yield* check(tx);
			assertCovers(row);
		},
		noted: (event) => (isUsed ? { ...event, detail: { ...event.detail, approval: approvalId } } : event),
	};
}

function unusable({ state, expiresAtMs }: ApprovalRow, nowMs: number): string | undefined {
	if (state === 'consumed') return 'it was used; look whether the call has been made already';
	if (state === 'rejected') return 'it was rejected';
	if (nowMs >= expiresAtMs) return 'it has expired';
	return state === 'pending' ? 'nobody has approved it yet' : undefined;
}

function approvalInvalid(why: string): GpuaasError {
	return new GpuaasError({
		code: 'PERMISSION_DENIED',
		reason: 'APPROVAL_INVALID',
		message: `this approval doesn't cover the call: ${why}; nothing was done. Ask for a new one: gpuaas approval request`,
	});
}
