import { create } from '@bufbuild/protobuf';
import { GetNodeResponseSchema, NodeService } from '../../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import { glanceMessage, healthOfNode } from '../health/glance.ts';
import { currentView, isPlatform } from '../telemetry/caller-view.ts';
import { query } from '../use-case.ts';
import { factsOfNode, nodeMessage } from '../wire/node.ts';

export const getNode = query('node', NodeService.method.getNode, {
	*read(tx, { ctx, nowMs }, target) {
		const { node } = target;
		const view = currentView(ctx, 'nodes.get', target);
		const stored = yield* healthOfNode(tx, node, nowMs);
		return { facts: yield* factsOfNode(tx, node), health: view.sees('host', '', nowMs) ? stored : undefined };
	},
	answer: ({ ctx, nowMs }, { facts, health }) => {
		const glance = health && glanceMessage(health, isPlatform(ctx, 'nodes.get'));
		return create(GetNodeResponseSchema, { node: nodeMessage(facts, nowMs, glance) });
	},
});
