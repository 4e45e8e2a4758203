import { create } from '@bufbuild/protobuf';
import {
	CancelOperationResponseSchema,
	OperationService,
} from '../../../proto/gen/gpuaas/operations/v1/operations_pb.ts';
import { mutation } from '../use-case.ts';
import { endDrain } from './drain-operation.ts';
import { operationMessage } from './view.ts';

/** Gives up a running operation; one that has ended stays as it is. A node that was drained stays cordoned. */
export const cancelOperation = mutation('operation', OperationService.method.cancelOperation, {
	prepare: () => undefined,
	*apply(tx, { nowMs }, { operation }) {
		if (operation.state === 'running')
			yield* endDrain(
				tx,
				operation,
				'cancelled',
				'cancelled; the node stays cordoned until somebody uncordons it',
				nowMs,
			);
		const row = (yield* tx.operations.get(operation.id)) ?? operation;
		return {
			response: create(CancelOperationResponseSchema, { operation: operationMessage(row) }),
			audit: {
				action: 'operations.cancel',
				target: `operations/${operation.id}`,
				result: 'ok',
				reason: '',
				detail: { kind: operation.kind, node: operation.target, was: operation.state },
			},
			events: [{ topic: 'nodes.changed', key: operation.target }],
		};
	},
});
