import { create } from '@bufbuild/protobuf';
import {
	CordonNodeResponseSchema,
	NodeService,
	UncordonNodeResponseSchema,
} from '../../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { endDrain } from '../operations/drain-operation.ts';
import { mutation } from '../use-case.ts';
import { factsOfNode, nodeMessage } from '../wire/node.ts';
import { changeNode } from './change.ts';
import { NOT_RETIRED } from './gates.ts';

/** No new work; what runs, and what is queued, goes on. */
export const cordonNode = mutation('node', NodeService.method.cordonNode, {
	prepare: () => undefined,
	gates: [NOT_RETIRED],
	*apply(tx, { request, nowMs }, { node }) {
		const patch = { cordoned: true, cordonReason: request.reason };
		const change = yield* changeNode(tx, node, 'nodes.cordon', patch, request.reason);
		const message = nodeMessage(yield* factsOfNode(tx, change.node), nowMs);
		return {
			response: create(CordonNodeResponseSchema, { node: message }),
			audit: change.audit,
			events: change.events,
		};
	},
});

/** Takes new work again. A drain under way is given up: its operation ends as cancelled. */
export const uncordonNode = mutation('node', NodeService.method.uncordonNode, {
	prepare: () => undefined,
	gates: [NOT_RETIRED],
	*apply(tx, { nowMs }, { node }) {
		const operation = yield* tx.operations.runningOfTarget(node.id, 'nodes.drain');
		const drained =
			operation === undefined ? node : yield* endDrain(tx, operation, 'cancelled', 'the node was uncordoned', nowMs);
		const patch = { cordoned: false, cordonReason: '' };
		const change = yield* changeNode(tx, drained ?? node, 'nodes.uncordon', patch, '');
		const message = nodeMessage(yield* factsOfNode(tx, change.node), nowMs);
		return {
			response: create(UncordonNodeResponseSchema, { node: message }),
			audit: change.audit,
			events: change.events,
		};
	},
});
