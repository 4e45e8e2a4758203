import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
	type Operation,
	OperationSchema,
	OperationState,
} from '../../../proto/gen/gpuaas/operations/v1/operations_pb.ts';
import type { OperationRow } from '../../store/port/operations.ts';

const STATE: Readonly<Record<OperationRow['state'], OperationState>> = {
	running: OperationState.RUNNING,
	succeeded: OperationState.SUCCEEDED,
	failed: OperationState.FAILED,
	cancelled: OperationState.CANCELLED,
};

export function operationMessage(row: OperationRow): Operation {
	return create(OperationSchema, {
		id: row.id,
		kind: row.kind,
		state: STATE[row.state],
		target: `nodes/${row.target}`,
		progress: row.progress,
		reason: row.reason,
		createdBy: row.createdBy,
		createdAt: timestampFromMs(row.createdAtMs),
		deadline: timestampFromMs(row.deadlineMs),
		...(row.endedAtMs === null ? {} : { endedAt: timestampFromMs(row.endedAtMs) }),
	});
}
