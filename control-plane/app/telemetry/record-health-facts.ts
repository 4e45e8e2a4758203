import { toBinary } from '@bufbuild/protobuf';
import { factKindName } from '../../../health/fact-kinds.ts';
import type { Fact } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { type HealthFact, HealthFactSchema } from '../../../proto/gen/gpuaas/telemetry/v1/telemetry_pb.ts';
import type { NodeFence } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';
import { risingId } from '../health/rising-id.ts';

/** Kept of one node and custody: an agent sends at most 600 an hour, and a node that is well none for weeks. */
const KEPT_MAX = 512;
const KEPT_MS = 30 * 86_400_000;

export interface HealthFactBatch {
	readonly nowMs: number;
	/** Fresh UUIDv7s that rise with `seq`: the plan may run twice. */
	idOf(fact: Fact): string;
}

/**
 * Stores what an agent says about health as it says it, with the custody of this moment: no verdict. Runs in the unit that
 * commits the facts, so each is stored once. Returns those that were stored.
 */
export function* recordHealthFacts(
	tx: Tx,
	node: NodeFence,
	{ nowMs, idOf }: HealthFactBatch,
	facts: readonly Fact[],
): Plan<readonly HealthFact[]> {
	const recorded: HealthFact[] = [];
	let lastId = facts.some((one) => one.fact.case === 'health')
		? ((yield* tx.healthFacts.ofNode(node.id, 1))[0]?.id ?? '')
		: '';
	// More than are kept would be inserted and trimmed at once.
	for (const fact of facts.filter((one) => one.fact.case === 'health').slice(-KEPT_MAX)) {
		if (fact.fact.case !== 'health') continue;
		const health = fact.fact.value;
		recorded.push(health);
		lastId = risingId(idOf(fact), lastId);
		yield* tx.healthFacts.insert({
			id: lastId,
			nodeId: node.id,
			custody: node.custody,
			factSeq: Number(fact.seq),
			kind: factKindName(health.kind),
			subjectId: health.subject?.id ?? '',
			code: health.code,
			fact: toBinary(HealthFactSchema, health),
			receivedAtMs: nowMs,
		});
	}
	if (recorded.length > 0) yield* tx.healthFacts.trim(node.id, node.custody, KEPT_MAX, nowMs - KEPT_MS);
	return recorded;
}
