import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Approval, ApprovalSchema, ApprovalState } from '../../../proto/gen/gpuaas/approvals/v1/approvals_pb.ts';
import type { ApprovalRow } from '../../store/port/approvals.ts';

const STATE: Readonly<Record<ApprovalRow['state'], ApprovalState>> = {
	pending: ApprovalState.PENDING,
	approved: ApprovalState.APPROVED,
	rejected: ApprovalState.REJECTED,
	consumed: ApprovalState.CONSUMED,
};

export function approvalMessage(row: ApprovalRow, nowMs: number): Approval {
	const { decidedAtMs, consumedAtMs } = row;
	const isOpen = row.state === 'pending' || row.state === 'approved';
	return create(ApprovalSchema, {
		id: row.id,
		state: isOpen && row.expiresAtMs <= nowMs ? ApprovalState.EXPIRED : STATE[row.state],
		requesterId: row.requesterId,
		method: row.method,
		requestJson: row.summary,
		reason: row.reason,
		createdAt: timestampFromMs(row.createdAtMs),
		expiresAt: timestampFromMs(row.expiresAtMs),
		decidedBy: row.decidedBy ?? '',
		decisionReason: row.decisionReason,
		...(decidedAtMs === null ? {} : { decidedAt: timestampFromMs(decidedAtMs) }),
		...(consumedAtMs === null ? {} : { consumedAt: timestampFromMs(consumedAtMs) }),
	});
}
