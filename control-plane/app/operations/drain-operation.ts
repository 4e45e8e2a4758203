import type { NodeRow, NodeState } from '../../store/port/nodes.ts';
import type { OperationRow } from '../../store/port/operations.ts';
import type { Tx } from '../../store/port/store.ts';
import type { Plan } from '../../store/port/unit.ts';

/** The part of a drain's operation row that only the drain reads, and how a drain ends. */
export interface DrainData {
	/** Of the node, to go back to. */
	readonly stateBefore: NodeState;
	/** The deadline passed and what was left was told to stop. */
	readonly cancelled: boolean;
}

export const DRAIN_DATA_NEW: DrainData = { stateBefore: 'available', cancelled: false };

export function encodeDrain(data: DrainData): string {
	return JSON.stringify(data);
}

export function decodeDrain(row: OperationRow): DrainData {
	const data: Partial<DrainData> = JSON.parse(row.data);
	return { ...DRAIN_DATA_NEW, ...data };
}

/**
 * Ends the operation and takes the node out of `draining`. It stays cordoned: taking work again is a decision of its
 * own. The node's row as it is now; undefined when the operation had ended already.
 */
export function* endDrain(
	tx: Tx,
	operation: OperationRow,
	state: 'succeeded' | 'cancelled' | 'failed',
	progress: string,
	nowMs: number,
): Plan<NodeRow | undefined> {
	const ended = yield* tx.operations.update(operation.id, { state, progress, endedAtMs: nowMs });
	const node = ended === undefined ? undefined : yield* tx.nodes.get(operation.target);
	if (node === undefined || node.state !== 'draining') return node;
	return yield* tx.nodes.update(node.id, { state: decodeDrain(operation).stateBefore });
}
