import type { NodeTrustFact, Rotation, RotationStep } from '../../../pki/trust/rotation.ts';
import { FORWARD, laggardsOf } from '../../../pki/trust/rotation.ts';
import type { NodeRow } from '../../store/port/nodes.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';

/**
 * What nodes have acknowledged, as rotation asks it. Only nodes that may hold a step up are read: those behind the
 * bundle, and those whose certificate has the issuer that the step would cut off. What the agent of a host in other
 * hands says satisfies no gate: outside platform custody a node lags until it is waived, whatever it acknowledged.
 */
export interface TrustFacts {
	readonly facts: readonly NodeTrustFact[];
	/** Of the nodes in `facts`, by id. */
	readonly nodes: ReadonlyMap<string, NodeRow>;
}

/** Above the largest fleet of one control plane: a list cut short could let a step pass that it must not. */
const NODES_MAX = 100_000;

/** Below every bundle. */
const NOTHING_ACKED = -1;

export function* trustFacts(
	tx: Tx,
	rotation: Rotation,
	step: RotationStep,
	nodesMax: number = NODES_MAX,
): Plan<TrustFacts> {
	const { oldKeyId, nextKeyId, bundleSeq } = rotation;
	const wanted = step === 'rollback' ? oldKeyId : nextKeyId;
	const other = step === 'rollback' ? nextKeyId : oldKeyId;
	const behind = yield* tx.nodes.listBundleLaggards(bundleSeq, nodesMax);
	const elsewhere = yield* tx.nodes.listIssuerLaggards(wanted, nodesMax);
	const held = new Set(elsewhere.map(({ id }) => id));
	const nodes = new Map([...behind, ...elsewhere].map((node) => [node.id, node]));
	const facts = [...nodes.values()].map((node) => ({
		nodeId: node.id,
		quarantined: node.state === 'quarantined',
		bundleSeqAcked: node.custody === 'platform' ? node.bundleSeqAcked : NOTHING_ACKED,
		leafIssuerKeyId: held.has(node.id) ? other : wanted,
	}));
	return { facts, nodes };
}

/**
 * Names of the nodes that hold up the next step forward; empty while no rotation is under way. `nodesMax`: for who only
 * wants to know whether there are some.
 */
export function* laggardNames(tx: Tx, rotation: Rotation | null, nodesMax?: number): Plan<readonly string[]> {
	const step = rotation === null ? undefined : FORWARD[rotation.phase]?.step;
	// `prepare` cuts nobody off.
	if (rotation === null || step === undefined || step === 'prepare') return [];
	const { facts, nodes } = yield* trustFacts(tx, rotation, step, nodesMax);
	return namesOf(laggardsOf(rotation, step, facts), nodes);
}

export function namesOf(nodeIds: readonly string[], nodes: ReadonlyMap<string, NodeRow>): readonly string[] {
	return nodeIds.map((id) => nodes.get(id)?.name ?? id).sort();
}

/** For the refusal: why some of the laggards will not stop being ones by waiting; empty when there is none. */
export function custodyNote(nodeIds: readonly string[], nodes: ReadonlyMap<string, NodeRow>): string {
	const elsewhere = nodeIds.filter((id) => (nodes.get(id)?.custody ?? 'platform') !== 'platform');
	if (elsewhere.length === 0) return '';
	return `; ${elsewhere.length} of them are outside platform custody, where no acknowledgement counts and waiting changes nothing: waive them`;
}
