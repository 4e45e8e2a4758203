import { create } from '@bufbuild/protobuf';
import {
	ListTokensRequestSchema,
	ListTokensResponseSchema,
	TokenService,
} from '../../../proto/gen/gpuaas/tokens/v1/tokens_pb.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { query } from '../use-case.ts';
import { tokenMessage } from './view.ts';

export const listTokens = query('platform', TokenService.method.listTokens, {
	*read(tx, call) {
		const page = pageOf(call, ListTokensRequestSchema);
		return { rows: yield* tx.joinTokens.list(page), page };
	},
	answer: (call, { rows, page }) =>
		create(ListTokensResponseSchema, {
			tokens: rows.map((row) => tokenMessage(row, call.nowMs)),
			nextPageToken: nextPageToken(page, rows.at(-1)?.id, rows.length),
		}),
});
