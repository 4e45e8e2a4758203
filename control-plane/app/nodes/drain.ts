import { create } from '@bufbuild/protobuf';
import { GpuaasError } from '../../../kit/error.ts';
import { uuidv7 } from '../../../kit/ids.ts';
import { DrainNodeResponseSchema, NodeService } from '../../../proto/gen/gpuaas/nodes/v1/nodes_pb.ts';
import type { Gate } from '../gates.ts';
import { DRAIN_DATA_NEW, encodeDrain } from '../operations/drain-operation.ts';
import { mutation } from '../use-case.ts';
import { factsOfNode, nodeMessage } from '../wire/node.ts';
import { msFromDuration } from '../wire/time.ts';
import { changeNode } from './change.ts';
import { NOT_RETIRED } from './gates.ts';

const DEADLINE_DEFAULT_MS = 600_000;

/** Throws NODE_DRAINING. */
const NO_DRAIN: Gate<'node'> = {
	gate: 'drain',
	*check(tx, { target: { node } }) {
		const running = yield* tx.operations.runningOfTarget(node.id, 'nodes.drain');
		if (running !== undefined) throw alreadyDraining(running.id);
		return 'no drain is under way';
	},
};

/** Cordons and starts the operation that workflows/drain carries on: work may end until the deadline, then it is cancelled. */
export const drainNode = mutation('node', NodeService.method.drainNode, {
	prepare: ({ deps, nowMs }) => uuidv7(nowMs, deps.rng),
	gates: [NOT_RETIRED, NO_DRAIN],
	*apply(tx, { ctx, request, nowMs }, { node }, operationId) {
		const deadlineMs = nowMs + (msFromDuration(request.deadline) ?? DEADLINE_DEFAULT_MS);
		yield* tx.operations.insert({
			id: operationId,
			kind: 'nodes.drain',
			state: 'running',
			target: node.id,
			progress: 'no new work is taken; waiting for what runs',
			reason: request.reason,
			createdBy: ctx.actor.id,
			createdAtMs: nowMs,
			deadlineMs,
			endedAtMs: null,
			data: encodeDrain({ ...DRAIN_DATA_NEW, stateBefore: node.state }),
		});
		const patch = { state: 'draining', cordoned: true, cordonReason: request.reason } as const;
		const { audit, events, node: changed } = yield* changeNode(tx, node, 'nodes.drain', patch, request.reason);
		const message = nodeMessage(yield* factsOfNode(tx, changed), nowMs);
		return {
			response: create(DrainNodeResponseSchema, { operationId, node: message }),
			audit: { ...audit, detail: { ...audit.detail, operation: operationId } },
			events: [...events, { topic: 'operations.started', key: operationId }],
		};
	},
});

function alreadyDraining(operationId: string): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'NODE_DRAINING',
		message: 'the node is being drained already; follow that operation, or cancel it first to set another deadline',
		metadata: { operation: operationId },
	});
}
