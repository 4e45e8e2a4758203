import type { Tx } from '../../store/port/store.ts';
import { asPlatform, type Plan } from '../../store/port/unit.ts';

/**
 * What the node of a record is called: of a record that was found, whoever has the node now. A tenant keeps its tasks
 * and terminals when an assignment ends, and the node itself is out of its sight from then on.
 */
export function* nodeName(tx: Tx, nodeId: string): Plan<string> {
	return (yield* asPlatform(tx.nodes.get(nodeId)))?.name ?? '';
}
