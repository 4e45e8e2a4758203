import { create } from '@bufbuild/protobuf';
import {
	ListRecordingsRequestSchema,
	ListRecordingsResponseSchema,
	RecordingService,
} from '../../../proto/gen/gpuaas/terminals/v1/recordings_pb.ts';
import { findNode } from '../iam/target.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { query } from '../use-case.ts';
import { recordingMessage } from './view.ts';

/** Newest first. Filtered by what the caller may get: by the assignment of each, never by the node's holder. */
export const listRecordings = query('any', RecordingService.method.listRecordings, {
	*read(tx, call, { visibility }) {
		const { request } = call;
		const page = pageOf(call, ListRecordingsRequestSchema);
		const node = request.node === '' ? undefined : yield* findNode(tx, request.node);
		// A node that isn't there has no recordings: the same answer as for one that the caller may not see.
		if (request.node !== '' && node === undefined) return { rows: [], page };
		const terminalId = request.terminalId === '' ? null : request.terminalId;
		const filter = { nodeId: node?.id ?? null, terminalId, visibility, afterId: page.afterId, limit: page.limit };
		return { rows: yield* tx.recordings.list(filter), page };
	},
	answer: (_call, { rows, page }) =>
		create(ListRecordingsResponseSchema, {
			recordings: rows.map(recordingMessage),
			nextPageToken: nextPageToken(page, rows.at(-1)?.id, rows.length),
		}),
});
