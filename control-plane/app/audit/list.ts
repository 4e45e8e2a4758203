import { create } from '@bufbuild/protobuf';
import {
	AuditService,
	ListAuditRecordsRequestSchema,
	ListAuditRecordsResponseSchema,
} from '../../../proto/gen/gpuaas/audit/v1/audit_pb.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { query } from '../use-case.ts';
import { readableTo } from './readers.ts';
import { auditRecord } from './record.ts';
import { untampered } from './untampered.ts';

/**
 * By position. The newest-first page begins with what has no position yet, so that a change is seen at once. The filter
 * goes by copies beside the leaves: a changed copy can hide a record from it (untampered.ts), which an export finds.
 */
export const listAuditRecords = query('any', AuditService.method.listAuditRecords, {
	*read(tx, call, { visibility }) {
		const { newestFirst } = call.request;
		const readers = readableTo(visibility, call.request.organization);
		const filter = { ...call.request, organizations: readers.organizations };
		const page = pageOf(call, ListAuditRecordsRequestSchema);
		const afterSeq = page.afterId === '' ? null : Number(page.afterId);
		const rows = yield* tx.audit.query({ ...filter, afterSeq, limit: page.limit });
		const isFirst = newestFirst && afterSeq === null;
		const fresh = isFirst ? yield* tx.audit.queryUnchained({ ...filter, limit: page.limit }) : [];
		const names = yield* readers.known(
			tx,
			[...fresh, ...rows].map((row) => ({ ...row, actor: untampered(row).actor })),
		);
		return { fresh, rows, page, names };
	},
	answer: (_call, { fresh, rows, page, names }) =>
		create(ListAuditRecordsResponseSchema, {
			records: [...fresh, ...rows].map((row) => auditRecord(row, names)),
			nextPageToken: nextPageToken(page, rows.at(-1)?.seq?.toString(), rows.length),
		}),
});
