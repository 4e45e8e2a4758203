import type { Timer } from '../../kit/clock.ts';
import { isCorrelationId, type Logger } from '../../kit/log.ts';
import type { TaskEnvelope } from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import type { AttemptRow } from '../journal/journal.ts';
import type { AttemptName } from './facts.ts';
import type { Decision } from './permit.ts';
import type { TaskKey, TaskResult } from './process-host.ts';

/** One accepted attempt in this process: what the journal doesn't need and a restart finds again. */
export class Attempt implements AttemptName {
	readonly key: string;
	readonly taskId: string;
	readonly attempt: number;
	readonly fencingToken: bigint;
	readonly correlationId: string;
	readonly decision: Decision;
	/** Empty: of the platform itself. */
	readonly assignmentId: string;
	/** Its lines name the task, the attempt and the command that they follow from. */
	readonly log: Logger;
	/** launching: the process host was asked and its answer isn't here. ended: its end is being written. */
	phase: 'queued' | 'launching' | 'running' | 'ended' = 'queued';
	/** Of the kinds that are no process in the host: a restart of the machine, facts that are made up. */
	special: 'reboot' | 'inject_fault' | undefined;
	/** Set once it is to be stopped. */
	cancelGraceMs: number | undefined;
	/** Its output goes by a stream of its own. */
	isStreaming = false;
	/** The control plane has all of its output. */
	isOutputStored = false;
	/** First process of it in the process host. */
	leaderPid: number | undefined;
	/** An end that came before the answer to the launch. */
	earlyEnd: TaskResult | undefined;
	/** When its output begins to be streamed; of a reboot, when it has failed. */
	timer: Timer | undefined;

	constructor(row: AttemptRow, { correlationId, assignment }: TaskEnvelope, decision: Decision, log: Logger) {
		this.key = keyOf(row);
		this.taskId = row.taskId;
		this.attempt = row.attempt;
		this.fencingToken = row.fencingToken;
		this.correlationId = correlationId;
		this.decision = decision;
		this.assignmentId = assignment?.assignmentId ?? '';
		this.log = attemptLog(log, row, correlationId);
		const kind = decision.kind === 'permit' ? decision.permit.kind : '';
		this.special = kind === 'reboot' || kind === 'inject_fault' ? kind : undefined;
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
