import { create } from '@bufbuild/protobuf';
import {
	AuditService,
	ListAuditRecordsRequestSchema,
	ListAuditRecordsResponseSchema,
} from '../../../proto/gen/gpuaas/audit/v1/audit_pb.ts';
import type { AuditLeafRow } from '../../store/port/audit.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { query } from '../use-case.ts';
import { readableTo } from './readers.ts';
import { auditRecord } from './record.ts';
import { untampered } from './untampered.ts';

/**
 * By position. Newest first begins with what has no position yet, so that a change is seen at once, and goes on through all
 * of that: while sealing is halted it may be far more than a page. What gets its position between two pages is of the pages
 * that come, for they go on below the leaf that was shown last, whether it has a position or not. The filter goes by copies
 * beside the leaves: a changed copy can hide a record from it (untampered.ts), which an export finds.
 */
export const listAuditRecords = query('any', AuditService.method.listAuditRecords, {
	*read(tx, call, { visibility }) {
		const { newestFirst } = call.request;
		const readers = readableTo(visibility, call.request.organization);
		const page = pageOf(call, ListAuditRecordsRequestSchema);
		const { afterSeq, beforeId } = cursorOf(page.afterId);
		const filter = {
			...call.request,
			organizations: readers.organizations,
			...(beforeId === '' ? {} : { beforeId }),
		};
		const isWaiting = newestFirst && afterSeq === null;
		const fresh = isWaiting ? yield* tx.audit.queryUnchained({ ...filter, limit: page.limit }) : [];
		const limit = page.limit - fresh.length;
		const rows = limit === 0 ? [] : yield* tx.audit.query({ ...filter, afterSeq, limit });
		const names = yield* readers.known(
			tx,
			[...fresh, ...rows].map((row) => ({ ...row, actor: untampered(row).actor })),
		);
		return { shown: [...fresh, ...rows], beforeId, page, names };
	},
	answer: (_call, { shown, beforeId, page, names }) =>
		create(ListAuditRecordsResponseSchema, {
			records: shown.map((row) => auditRecord(row, names)),
			nextPageToken: nextPageToken(page, cursorAfter(shown.at(-1), beforeId), shown.length),
		}),
});

/** Past this position, of what was written before that leaf. */
interface Cursor {
	readonly afterSeq: number | null;
	readonly beforeId: string;
}

function cursorOf(text: string): Cursor {
	const [seq = '', beforeId = ''] = text.split('/');
	return { afterSeq: seq === '' ? null : Number(seq), beforeId };
}

function cursorAfter(last: AuditLeafRow | undefined, beforeId: string): string | undefined {
	if (last === undefined) return undefined;
	return last.seq === null ? `/${last.id}` : `${last.seq}/${beforeId}`;
}
