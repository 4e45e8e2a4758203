import type { Timer } from '../../kit/clock.ts';
import { isCorrelationId, type Logger } from '../../kit/log.ts';
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
	/** Its lines name the task, the attempt and the command that they follow from. */
	readonly log: Logger;
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

	constructor(row: AttemptRow, correlationId: string, decision: Decision, log: Logger) {
		this.key = keyOf(row);
		this.taskId = row.taskId;
		this.attempt = row.attempt;
		this.fencingToken = row.fencingToken;
		this.correlationId = correlationId;
		this.decision = decision;
		this.log = attemptLog(log, row, correlationId);
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

/** For lines about one attempt: what is searched for from the command line to this host is on each of them. */
export function attemptLog(log: Logger, { taskId, attempt }: TaskKey, correlationId: string): Logger {
	// Of an offer that nobody signed it may be anything.
	const correlation = isCorrelationId(correlationId) ? { correlation_id: correlationId } : {};
	return log.child({ task: taskId, attempt, ...correlation });
}

export function keyOf({ taskId, attempt }: TaskKey): string {
	return `${taskId}/${attempt}`;
}
