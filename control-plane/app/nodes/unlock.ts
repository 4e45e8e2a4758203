import { create } from '@bufbuild/protobuf';
import { NodeService, UnlockNodeResponseSchema } from '../../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { mutation } from '../use-case.ts';
import { factsOfNode, nodeMessage } from '../wire/node.ts';
import { changeNode } from './change.ts';
import { NOT_RETIRED } from './gates.ts';

/** Ends the clone lock after a person looked at both hosts; the reason says what was found. */
export const unlockNode = mutation('node', NodeService.method.unlockNode, {
	prepare: () => undefined,
	gates: [NOT_RETIRED],
	*apply(tx, { request, nowMs }, { node }) {
		const patch = { locked: false, lockReason: '' };
		const change = yield* changeNode(tx, node, 'nodes.unlock', patch, request.reason);
		const message = nodeMessage(yield* factsOfNode(tx, change.node), nowMs);
		return {
			response: create(UnlockNodeResponseSchema, { node: message }),
			audit: change.audit,
			events: change.events,
		};
	},
});
