import { create, fromBinary } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { GpuaasError } from '../../../kit/error.ts';
import { InventoryReportSchema } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { InventorySchema } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import {
	GetNodeInventoryResponseSchema,
	TelemetryService,
} from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_service_pb.ts';
import { query } from '../use-case.ts';
import { CUSTODY } from '../wire/node.ts';

const CHANGES_MAX = 20;

export const getNodeInventory = query('node', TelemetryService.method.getNodeInventory, {
	*read(tx, _call, { node }) {
		const [newest] = yield* tx.inventories.ofNode(node.id);
		return { newest, changes: yield* tx.inventories.listChanges(node.id, CHANGES_MAX) };
	},
	answer: (_call, { newest, changes }) => {
		if (newest === undefined) throw missing();
		return create(GetNodeInventoryResponseSchema, {
			inventory: fromBinary(InventorySchema, newest.inventory),
			custody: CUSTODY[newest.custody],
			receivedAt: timestampFromMs(newest.receivedAtMs),
			changes: changes.map((row) => {
				const { previousDigest, changes: list } = fromBinary(InventoryReportSchema, row.changes);
				const { digest, custody, receivedAtMs } = row;
				const at = timestampFromMs(receivedAtMs);
				return { previousDigest, digest, custody: CUSTODY[custody], receivedAt: at, changes: list };
			}),
		});
	},
});

function missing(): GpuaasError {
	return new GpuaasError({
		code: 'FAILED_PRECONDITION',
		reason: 'INVENTORY_MISSING',
		message:
			'the agent of this node has not reported what its host consists of yet; an agent of this version does when it starts',
	});
}
