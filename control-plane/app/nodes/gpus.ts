import { fromBinary } from '@bufbuild/protobuf';
import { InventorySchema } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';

/** The GPUs of a node as the platform saw them; undefined: no inventory came while it was in the platform's hands. */
export function* gpusOf(tx: Tx, nodeId: string): Plan<readonly string[] | undefined> {
	// What an agent said in a tenant's hands is that tenant's word.
	const seen = (yield* tx.inventories.ofNode(nodeId)).find(({ custody }) => custody === 'platform');
	return seen === undefined ? undefined : fromBinary(InventorySchema, seen.inventory).gpus.map(({ name }) => name);
}
