import type { Page } from './page.ts';
import type { Plan } from './unit.ts';

export type OperationState = 'running' | 'succeeded' | 'failed' | 'cancelled';

export interface OperationRow {
	readonly id: string;
	readonly kind: 'nodes.drain';
	readonly state: OperationState;
	/** Node id. */
	readonly target: string;
	readonly progress: string;
	readonly reason: string;
	readonly createdBy: string;
	readonly createdAtMs: number;
	readonly deadlineMs: number;
	readonly endedAtMs: number | null;
	/** JSON; owned by the workflow. */
	readonly data: string;
}

export interface Operations {
	insert(row: OperationRow): Plan<void>;
	get(id: string): Plan<OperationRow | undefined>;
	/** Only while running; the changed row. */
	update(
		id: string,
		patch: Partial<Pick<OperationRow, 'state' | 'progress' | 'endedAtMs' | 'data'>>,
	): Plan<OperationRow | undefined>;
	/** Newest first, below `page.afterId` when it isn't empty. */
	list(page: Page): Plan<readonly OperationRow[]>;
	listRunning(limit: number): Plan<readonly OperationRow[]>;
	runningOfTarget(target: string, kind: OperationRow['kind']): Plan<OperationRow | undefined>;
}
