import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { outputSha256, outputSha256OfChunks } from '../../pki/verify/task-output.ts';
import {
	TaskResult as Result,
	type TaskOutcome,
	TaskOutcomeSchema,
} from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import { signalNumber, unprovenExit } from '../process-host/waiter.ts';
import type { StartedInfo, TaskResult } from './process-host.ts';

/** Limits whose name in the contract is another than the process host's. */
const ASKED_AS: Readonly<Record<string, string>> = { cpuQuota: 'cpuMilli' };

/** What a receipt says, from what the process host knows. */
export function outcomeOf(result: TaskResult): TaskOutcome {
	const { end, usage, output, started } = result;
	const unenforced = started?.unenforced ?? [];
	return create(TaskOutcomeSchema, {
		...verdictOf(result),
		...(end.kind === 'EXITED' && { exitCode: end.exitCode }),
		...(end.kind === 'SIGNALED' && { signal: signalNumber(end.signal) }),
		...(started !== undefined && { startedAt: timestampFromMs(Math.round(started.startedAtMs)) }),
		endedAt: timestampFromMs(Math.round(result.endedAtMs)),
		outputBytes: BigInt(output.totalBytes),
		outputDroppedBytes: BigInt(output.droppedBytes),
		outputSha256: outputSha256(
			Buffer.from(output.kept.stdout.sha256, 'hex'),
			Buffer.from(output.kept.stderr.sha256, 'hex'),
		),
		userCpuUs: BigInt(Math.round(usage.cpuUserMs * 1000)),
		systemCpuUs: BigInt(Math.round(usage.cpuSystemMs * 1000)),
		memoryMaxBytes: BigInt(usage.maxRssBytes),
		limitsEnforcedBy: started === undefined ? '' : limitsText(started),
		...(unenforced.length > 0 &&
			verdictOf(result).message === '' && {
				message: `this host can't enforce: ${unenforced.map((limit) => ASKED_AS[limit] ?? limit).join(', ')}`,
			}),
	});
}

/** An end that the process host knows nothing about: its memory is gone, or the machine restarted under it. */
export function outcomeWithoutHost(fields: {
	readonly result: Result;
	readonly reason: string;
	readonly message: string;
	readonly endedAtMs: number;
}): TaskOutcome {
	const { result, reason, message, endedAtMs } = fields;
	return create(TaskOutcomeSchema, {
		result,
		reason,
		message,
		endedAt: timestampFromMs(endedAtMs),
		outputSha256: outputSha256OfChunks([]),
	});
}

export function limitsText(started: StartedInfo): string {
	return started.limits;
}

interface Verdict {
	readonly result: Result;
	readonly reason: string;
	readonly message: string;
}

function verdictOf({ end, stoppedBy }: TaskResult): Verdict {
	if (end.kind === 'HOST_DIED')
		return lost(
			'HOST_DIED',
			'the process host of the node died while the task was there; what was left of it was killed',
		);
	if (end.kind === 'END_UNKNOWN')
		return lost(
			'END_UNKNOWN',
			'the task has ended, and the node was not told how; look at what it left, and run it again',
		);
	if (end.kind === 'HOST_REBOOTED') return lost('HOST_REBOOTED', 'the machine restarted while the task was there');
	switch (stoppedBy) {
		case 'TIMEOUT':
			return {
				result: Result.TIMED_OUT,
				reason: 'TIMED_OUT',
				message: 'the task ran longer than its timeout and was stopped',
			};
		case 'CANCEL':
			return { result: Result.CANCELLED, reason: 'CANCELLED', message: '' };
		case 'SHUTDOWN':
			return lost('HOST_DIED', 'the process host of the node was shut down while the task ran, and stopped it');
		case 'DISK':
			return {
				result: Result.FAILED,
				reason: 'DISK_FULL',
				message: "the task's start could not be recorded on the node's disk, so it was stopped; free space there",
			};
		case 'NONE':
			break;
	}
	if (end.kind === 'SIGNALED') return { result: Result.FAILED, reason: 'SIGNALLED', message: `ended by ${end.signal}` };
	return end.exitCode === 0
		? { result: Result.SUCCEEDED, reason: '', message: end.isUnproven === true ? unprovenExit : '' }
		: { result: Result.FAILED, reason: 'EXIT_CODE', message: '' };
}

function lost(reason: string, message: string): Verdict {
	return { result: Result.LOST, reason, message };
}
