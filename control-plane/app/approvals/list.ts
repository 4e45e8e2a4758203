import { create } from '@bufbuild/protobuf';
import {
	ApprovalService,
	ListApprovalsRequestSchema,
	ListApprovalsResponseSchema,
} from '../../../proto/gen/gpuaas/approvals/v1/approvals_pb.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { query } from '../use-case.ts';
import { approvalMessage } from './view.ts';

export const listApprovals = query('any', ApprovalService.method.listApprovals, {
	*read(tx, call, { visibility }) {
		const page = pageOf(call, ListApprovalsRequestSchema);
		const requesterId = call.ctx.actor.id;
		return { rows: yield* tx.approvals.list({ ...page, requesterId, visibility }), page };
	},
	answer: (call, { rows, page }) =>
		create(ListApprovalsResponseSchema, {
			approvals: rows.map((row) => approvalMessage(row, call.nowMs)),
			nextPageToken: nextPageToken(page, rows.at(-1)?.id, rows.length),
		}),
});
