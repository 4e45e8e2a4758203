import { create } from '@bufbuild/protobuf';
import { isUuid } from '../../../kit/ids.ts';
import {
	CertificateService,
	ListCertificatesRequestSchema,
	ListCertificatesResponseSchema,
} from '../../../proto/gen/gpuaas/certificates/v1/certificates_pb.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { query } from '../use-case.ts';
import { certificateMessage } from './view.ts';

/** By serial. `node` is an id or a name; a node that was removed only has its id. */
export const listCertificates = query('platform', CertificateService.method.listCertificates, {
	*read(tx, call) {
		const { node } = call.request;
		const page = pageOf(call, ListCertificatesRequestSchema);
		// A name that nobody has finds nothing, as an unknown id does.
		const named = node === '' || isUuid(node) ? node : ((yield* tx.nodes.getByName(node))?.id ?? node);
		const { afterId, limit } = page;
		const rows = yield* tx.certificates.list({ afterId, limit, subjectId: named === '' ? null : named });
		return { rows, page };
	},
	answer: ({ nowMs }, { rows, page }) =>
		create(ListCertificatesResponseSchema, {
			certificates: rows.map((row) => certificateMessage(row, nowMs)),
			nextPageToken: nextPageToken(page, rows.at(-1)?.serial, rows.length),
		}),
});
