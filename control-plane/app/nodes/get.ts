import { create } from '@bufbuild/protobuf';
import { GetNodeResponseSchema, NodeService } from '../../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { query } from '../use-case.ts';
import { factsOfNode, nodeMessage } from '../wire/node.ts';

export const getNode = query('node', NodeService.method.getNode, {
	*read(tx, _call, { node }) {
		return yield* factsOfNode(tx, node);
	},
	answer: (call, facts) => create(GetNodeResponseSchema, { node: nodeMessage(facts, call.nowMs) }),
});
