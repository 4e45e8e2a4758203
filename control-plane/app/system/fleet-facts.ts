import type { NodeRow } from '../../store/port/nodes.ts';
import type { QuotaTotal } from '../../store/port/quotas.ts';
import type { Tx } from '../../store/port/store.ts';
import type { TaskState } from '../../store/port/tasks.ts';
import type { Plan } from '../../store/port/unit.ts';
import type { AppDeps } from '../deps.ts';

/** What monitoring is told of the store's truth, read for one page. */
export interface FleetFacts {
	/** Not retired. */
	readonly nodes: number;
	readonly tasksByState: Readonly<Partial<Record<TaskState, number>>>;
	/** Of all organizations. */
	readonly quotas: readonly QuotaTotal[];
	/** The newest signed one. */
	readonly auditHead: { readonly size: number; readonly ageSeconds: number } | undefined;
	/** One commit, tried for this page. */
	readonly storeSeconds: number;
}

export async function readFleetFacts({ store, clock }: AppDeps): Promise<FleetFacts> {
	const startedAtMs = clock.monotonic();
	await store.check();
	const storeSeconds = (clock.monotonic() - startedAtMs) / 1000;
	const nowMs = clock.now();
	return await store.read(function* (tx) {
		const head = yield* tx.audit.lastHead();
		return {
			nodes: yield* tx.nodes.count(),
			tasksByState: yield* tx.tasks.countByState(),
			quotas: yield* tx.quotas.totals(),
			auditHead: head && { size: head.size, ageSeconds: Math.max(0, nowMs - head.atMs) / 1000 },
			storeSeconds,
		};
	});
}

/** A node as service discovery names it. */
export type DiscoveredNode = Pick<NodeRow, 'id' | 'name' | 'labels'>;

/** Nodes that aren't retired, after `afterId`: a page for service discovery. */
export async function readNodes(
	{ store }: AppDeps,
	afterId: string,
	limit: number,
): Promise<readonly DiscoveredNode[]> {
	return await store.read((tx) => discovered(tx, afterId, limit));
}

function* discovered(tx: Tx, afterId: string, limit: number): Plan<readonly DiscoveredNode[]> {
	const filter = { selector: {}, visibility: { all: true }, includeRetired: false } as const;
	return yield* tx.nodes.list({ afterId, limit, ...filter });
}
