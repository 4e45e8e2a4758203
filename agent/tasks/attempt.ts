import type { Timer } from '../../kit/clock.ts';
import type { AttemptRow } from '../journal/journal.ts';
import type { AttemptName } from './facts.ts';
import type { Decision } from './policy.ts';
import type { TaskKey, TaskResult } from './process-host.ts';

/** One accepted attempt in this process: what the journal doesn't need and a restart finds again. */
export class Attempt implements AttemptName {
	readonly key: string;
	readonly taskId: string;
	readonly attempt: number;
	readonly fencingToken: bigint;
	readonly correlationId: string;
	readonly decision: Decision;
	/** launching: the process host was asked and its answer isn't here. ended: its end is being written. */
	phase: 'queued' | 'launching' | 'running' | 'ended' = 'queued';
	isReboot: boolean;
	/** Set once it is to be stopped. */
	cancelGraceMs: number | undefined;
	/** Its output goes by a stream of its own. */
	isStreaming = false;
	/** The control plane has all of its output. */
	isOutputStored = false;
	/** An end that came before the answer to the launch. */
	earlyEnd: TaskResult | undefined;
	/** When its output begins to be streamed; of a reboot, when it has failed. */
	timer: Timer | undefined;

	constructor(row: AttemptRow, correlationId: string, decision: Decision) {
		this.key = keyOf(row);
		this.taskId = row.taskId;
		this.attempt = row.attempt;
		this.fencingToken = row.fencingToken;
		this.correlationId = correlationId;
		this.decision = decision;
		this.isReboot = decision.kind === 'permit' && decision.permit.kind === 'reboot';
	}

	/** Claims its one end; false when it has one. */
	end(): boolean {
		this.timer?.cancel();
		if (this.phase === 'ended') return false;
		this.phase = 'ended';
		return true;
	}
}

export function keyOf({ taskId, attempt }: TaskKey): string {
	return `${taskId}/${attempt}`;
}
