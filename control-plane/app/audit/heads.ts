import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
	AuditHeadSchema,
	AuditService,
	ListAuditHeadsRequestSchema,
	ListAuditHeadsResponseSchema,
} from '../../../proto/gen/gpuaas/audit/v1/audit_pb.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { query } from '../use-case.ts';

/** Signed heads by size. */
export const listAuditHeads = query('platform', AuditService.method.listAuditHeads, {
	*read(tx, call) {
		const page = pageOf(call, ListAuditHeadsRequestSchema);
		const afterSize = page.afterId === '' ? null : Number(page.afterId);
		return { rows: yield* tx.audit.listHeads(afterSize, page.limit, call.request.newestFirst), page };
	},
	answer: (_call, { rows, page }) =>
		create(ListAuditHeadsResponseSchema, {
			heads: rows.map(({ size, note, atMs }) =>
				create(AuditHeadSchema, { size: BigInt(size), note, at: timestampFromMs(atMs) }),
			),
			nextPageToken: nextPageToken(page, rows.at(-1)?.size.toString(), rows.length),
		}),
});
