import type { QuotaReservationRow } from '../../store/port/quotas.ts';
import type { Tx } from '../../store/port/store.ts';
import { TASK_STATES_OPEN } from '../../store/port/tasks.ts';
import type { Plan } from '../../store/port/unit.ts';
import { liveVersions } from '../keys/checks.ts';

/** Whether what took it is still there, by the store's clock. What is only reserved has its own end. */
export function* isHeld(tx: Tx, { kind, holder, state }: QuotaReservationRow, nowMs: number): Plan<boolean> {
	if (state === 'reserved') return true;
	switch (kind) {
		case 'nodes':
		case 'gpus':
			return (yield* tx.assignments.get(holder))?.untilMs === null;
		case 'terminals': {
			const terminal = yield* tx.terminals.get(holder);
			return terminal !== undefined && terminal.state !== 'closed';
		}
		case 'tasks': {
			const task = yield* tx.tasks.get(holder);
			return task !== undefined && TASK_STATES_OPEN.includes(task.state);
		}
		case 'api_keys':
			if ((yield* tx.apiKeys.find(holder))?.revokedAtMs !== null) return false;
			return liveVersions(yield* tx.apiKeys.credentialsOf([holder]), nowMs).length > 0;
	}
}
