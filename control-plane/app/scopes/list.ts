import { create } from '@bufbuild/protobuf';
import {
	ListScopesRequestSchema,
	ListScopesResponseSchema,
	ScopeService,
} from '../../../proto/gen/gpuaas/iam/v1/scopes_pb.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { query } from '../use-case.ts';
import { rowKindOf, scopeMessage } from './view.ts';

/** By name: what the caller may get, of those that aren't deleted. */
export const listScopes = query('any', ScopeService.method.listScopes, {
	*read(tx, call, { visibility }) {
		const page = pageOf(call, ListScopesRequestSchema);
		const { parent, kinds } = call.request;
		const rows = yield* tx.scopes.list({
			afterId: page.afterId,
			limit: page.limit,
			visibility,
			organization: null,
			parent: parent === '' ? null : parent,
			kinds: kinds.map(rowKindOf).filter((kind) => kind !== undefined),
		});
		return { rows, page };
	},
	answer: (_call, { rows, page }) =>
		create(ListScopesResponseSchema, {
			scopes: rows.map(scopeMessage),
			nextPageToken: nextPageToken(page, rows.at(-1)?.name, rows.length),
		}),
});
