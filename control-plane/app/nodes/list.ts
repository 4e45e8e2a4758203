import { create } from '@bufbuild/protobuf';
import {
	ListNodesRequestSchema,
	ListNodesResponseSchema,
	NodeService,
} from '../../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { query } from '../use-case.ts';
import { factsOf, nodeMessage } from '../wire/node.ts';

/** Nodes that aren't retired and that the caller may get. */
export const listNodes = query('any', NodeService.method.listNodes, {
	*read(tx, call, { visibility }) {
		const page = pageOf(call, ListNodesRequestSchema);
		const rows = yield* tx.nodes.list({
			afterId: page.afterId,
			limit: page.limit,
			selector: call.request.selector,
			visibility,
			includeRetired: false,
		});
		return { facts: yield* factsOf(tx, rows), page };
	},
	answer: (call, { facts, page }) =>
		create(ListNodesResponseSchema, {
			nodes: facts.map((one) => nodeMessage(one, call.nowMs)),
			nextPageToken: nextPageToken(page, facts.at(-1)?.node.id, facts.length),
		}),
});
