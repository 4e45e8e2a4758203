import { create } from '@bufbuild/protobuf';
import {
	ListNodesRequestSchema,
	ListNodesResponseSchema,
	NodeService,
} from '../../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { glanceMessage, healthOfNodes } from '../health/glance.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { isPlatform, viewsOfNodes } from '../telemetry/caller-view.ts';
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
		const ids = rows.map(({ id }) => id);
		const views = yield* viewsOfNodes(tx, visibility, ids);
		return { facts: yield* factsOf(tx, rows), health: yield* healthOfNodes(tx, ids, call.nowMs), views, page };
	},
	answer: ({ ctx, nowMs }, { facts, health, views, page }) =>
		create(ListNodesResponseSchema, {
			nodes: facts.map((one) => {
				const { id } = one.node;
				const stored = views.get(id)?.sees('host', '', nowMs) === true ? health.get(id) : undefined;
				return nodeMessage(one, nowMs, stored && glanceMessage(stored, isPlatform(ctx, 'nodes.get')));
			}),
			nextPageToken: nextPageToken(page, facts.at(-1)?.node.id, facts.length),
		}),
});
