import type { Tx } from '../../store/port/store.ts';
import type { TaskRow } from '../../store/port/tasks.ts';
import type { Plan } from '../../store/port/unit.ts';
import { releaseQuota } from '../quotas/reserve.ts';

/** Ended tasks count no longer; those of the platform itself never did. In the unit that ends them. */
export function* releaseTasks(tx: Tx, ended: readonly TaskRow[]): Plan<void> {
	const owned = ended.filter(({ organization }) => organization !== null).map(({ id }) => id);
	if (owned.length > 0) yield* releaseQuota(tx, 'tasks', owned);
}
