import { create, toBinary } from '@bufbuild/protobuf';
import { type Fact, type InventoryReport, InventoryReportSchema } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { InventoryChangeKind, InventorySchema } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { RequestContext } from '../../context.ts';
import type { NodeFence } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AppendAudit } from '../audit/event.ts';

/** Differences kept of one node: hardware changes are rare, and what is older is in the audit log. */
const CHANGES_KEPT_MAX = 64;

export interface InventoryBatch {
	readonly appendAudit: AppendAudit;
	readonly nowMs: number;
	/** Fresh UUIDv7s, one a fact: the plan may run twice. */
	readonly outboxIds: readonly string[];
}

/**
 * Stores what a node says that it consists of, with the custody of this moment, and one audit record for a part that
 * came, went or changed. Runs in the unit that commits the facts. True when there was such a fact.
 */
export function* recordInventories(
	tx: Tx,
	ctx: RequestContext,
	node: NodeFence,
	batch: InventoryBatch,
	facts: readonly Fact[],
): Plan<boolean> {
	let recorded = 0;
	for (const fact of facts) {
		if (fact.fact.case !== 'inventory') continue;
		const report = fact.fact.value;
		const { inventory } = report;
		if (inventory === undefined) continue;
		recorded += 1;
		const { nowMs } = batch;
		// From the end: those at the front are for tasks.
		const id = batch.outboxIds.at(-recorded) ?? '';
		const row = { nodeId: node.id, custody: node.custody, digest: inventory.digest, receivedAtMs: nowMs };
		yield* tx.inventories.put({ ...row, inventory: toBinary(InventorySchema, inventory) });
		if (report.changes.length > 0) {
			const changes = create(InventoryReportSchema, { previousDigest: report.previousDigest, changes: report.changes });
			const body = toBinary(InventoryReportSchema, changes);
			yield* tx.inventories.insertChange({ ...row, id, changes: body }, CHANGES_KEPT_MAX);
		}
		yield* tx.outbox.append({ id, topic: 'nodes.inventory', key: node.id, atMs: nowMs });
		yield* batch.appendAudit(tx, ctx, {
			action: report.previousDigest === '' ? 'nodes.inventory' : 'nodes.inventory_changed',
			target: `nodes/${node.id}`,
			result: 'ok',
			reason: '',
			custody: node.custody,
			detail: { digest: inventory.digest, previous: report.previousDigest, ...countsOf(report) },
		});
	}
	return recorded > 0;
}

function countsOf({ changes, inventory }: InventoryReport) {
	const count = (kind: InventoryChangeKind) => changes.filter((change) => change.kind === kind).length;
	return {
		added: count(InventoryChangeKind.ADDED),
		removed: count(InventoryChangeKind.REMOVED),
		changed: count(InventoryChangeKind.CHANGED),
		gpus: inventory?.gpus.length ?? 0,
		simulated: inventory?.simulated ?? false,
	};
}
