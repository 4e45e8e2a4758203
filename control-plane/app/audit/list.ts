import { create } from '@bufbuild/protobuf';
import {
	AuditService,
	ListAuditRecordsRequestSchema,
	ListAuditRecordsResponseSchema,
} from '../../../proto/gen/gpuaas/audit/v1/audit_pb.ts';
import type { AuditLeafRow } from '../../store/port/audit.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { query } from '../use-case.ts';
import { auditRecord } from './record.ts';

/**
 * By position. The newest-first page begins with what has no position yet, so that a change is seen at once. The filter
 * goes by copies beside the leaves: a changed copy can hide a record from it (untampered.ts), which an export finds.
 */
export const listAuditRecords = query('platform', AuditService.method.listAuditRecords, {
	*read(tx, call) {
		const { action, target, newestFirst } = call.request;
		const page = pageOf(call, ListAuditRecordsRequestSchema);
		const afterSeq = page.afterId === '' ? null : Number(page.afterId);
		const rows = yield* tx.audit.query({ afterSeq, limit: page.limit, action, target, newestFirst });
		const isFirst = newestFirst && afterSeq === null;
		const fresh = isFirst ? (yield* tx.audit.listUnchained(page.limit)).filter(matches(action, target)).reverse() : [];
		return { fresh, rows, page };
	},
	answer: (_call, { fresh, rows, page }) =>
		create(ListAuditRecordsResponseSchema, {
			records: [...fresh, ...rows].map(auditRecord),
			nextPageToken: nextPageToken(page, rows.at(-1)?.seq?.toString(), rows.length),
		}),
});

/** As the store's own query filters. */
function matches(action: string, target: string): (row: AuditLeafRow) => boolean {
	return (row) =>
		(action === '' || (action.endsWith('.') ? row.action.startsWith(action) : row.action === action)) &&
		(target === '' || row.target === target);
}
