import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { NodeService, SetNodeLabelsResponseSchema } from '../../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { mutation } from '../use-case.ts';
import { etagOf, factsOfNode, nodeMessage } from '../wire/node.ts';
import { digestOfLabels } from './change.ts';

/** Replaces all labels of a node that hasn't changed since it was read. */
export const setNodeLabels = mutation('node', NodeService.method.setNodeLabels, {
	prepare: () => undefined,
	*apply(tx, { request, nowMs }, { node }) {
		const changed =
			request.etag === etagOf(node)
				? yield* tx.nodes.update(node.id, { labels: { ...request.labels } }, node.version)
				: undefined;
		if (changed === undefined) throw stale();
		return {
			response: create(SetNodeLabelsResponseSchema, { node: nodeMessage(yield* factsOfNode(tx, changed), nowMs) }),
			audit: {
				action: 'nodes.label',
				target: `nodes/${node.id}`,
				result: 'ok',
				reason: '',
				detail: { labels: Object.keys(request.labels).length },
				beforeSha256: digestOfLabels(node.labels),
				afterSha256: digestOfLabels(changed.labels),
			},
			events: [{ topic: 'nodes.changed', key: node.id }],
		};
	},
});

function stale(): GpuaasError {
	return new GpuaasError({
		code: 'ABORTED',
		reason: 'ETAG_MISMATCH',
		message: 'the node changed since it was read, so nothing was changed; get it again and send its new etag',
	});
}
