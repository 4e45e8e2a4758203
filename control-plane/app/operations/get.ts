import { create } from '@bufbuild/protobuf';
import { GetOperationResponseSchema, OperationService } from '../../../proto/gen/gpuaas/operations/v1/operations_pb.ts';
import { query } from '../use-case.ts';
import { operationMessage } from './view.ts';

export const getOperation = query('operation', OperationService.method.getOperation, {
	*read(_tx, _call, { operation }) {
		return operation;
	},
	answer: (_call, row) => create(GetOperationResponseSchema, { operation: operationMessage(row) }),
});
