import { create } from '@bufbuild/protobuf';
import {
	ListOperationsRequestSchema,
	ListOperationsResponseSchema,
	OperationService,
} from '../../../proto/gen/gpuaas/operations/v1/operations_pb.ts';
import { nextPageToken, pageOf } from '../list-page.ts';
import { query } from '../use-case.ts';
import { operationMessage } from './view.ts';

/** Newest first. Operations belong to the platform: whoever holds no platform role sees none. */
export const listOperations = query('any', OperationService.method.listOperations, {
	*read(tx, call, { visibility }) {
		const page = pageOf(call, ListOperationsRequestSchema);
		return { rows: visibility.all || visibility.unowned ? yield* tx.operations.list(page) : [], page };
	},
	answer: (_call, { rows, page }) =>
		create(ListOperationsResponseSchema, {
			operations: rows.map(operationMessage),
			nextPageToken: nextPageToken(page, rows.at(-1)?.id, rows.length),
		}),
});
