import type { Store } from '../../../control-plane/store/port/store.ts';
import type { TaskRow } from '../../../control-plane/store/port/tasks.ts';

/** Reads what is queued and claims it in a unit of its own, without documents; the rows as they are then. */
export async function claimQueued(
	store: Store,
	nodeId: string,
	limit: number,
	leaseUntilMs: number,
): Promise<readonly TaskRow[]> {
	const read = await store.read(function* (tx) {
		return { node: yield* tx.nodes.get(nodeId), tasks: yield* tx.tasks.listQueued(nodeId, limit) };
	});
	const { node, tasks } = read;
	if (node === undefined) return [];
	return await store.unit(function* (tx) {
		const rows: TaskRow[] = [];
		for (const id of yield* tx.tasks.claim(node, tasks, leaseUntilMs)) {
			const row = yield* tx.tasks.get(id);
			if (row !== undefined) rows.push(row);
		}
		return rows.sort((a, b) => a.fencingToken - b.fencingToken);
	});
}
