import { expect, test } from 'vitest';
import { TaskResult as Result } from '../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import { outcomeOf } from './outcome.ts';
import type { TaskEnd } from './process-host.ts';

const EMPTY = { bytes: 0, sha256: '' };

function outcome(end: TaskEnd) {
	return outcomeOf({
		taskId: 't',
		attempt: 1,
		end,
		stoppedBy: 'NONE',
		endedAtMs: 1,
		usage: { cpuSource: 'none', cpuUserMs: 0, cpuSystemMs: 0, maxRssSource: 'none', maxRssBytes: 0 },
		output: { totalBytes: 0, droppedBytes: 0, kept: { stdout: EMPTY, stderr: EMPTY } },
	});
}

test('a receipt tells exit codes and signals, also those that have no name', () => {
	expect(outcome({ kind: 'EXITED', exitCode: 0 })).toMatchObject({
		result: Result.SUCCEEDED,
		exitCode: 0,
		message: '',
	});
	expect(outcome({ kind: 'EXITED', exitCode: 163 })).toMatchObject({ result: Result.FAILED, exitCode: 163 });
	for (const [signal, number] of [
		['SIGKILL', 9],
		['SIG35', 35],
		['SIG64', 64],
	] as const)
		expect(outcome({ kind: 'SIGNALED', signal })).toMatchObject({
			result: Result.FAILED,
			reason: 'SIGNALLED',
			signal: number,
			message: `ended by ${signal}`,
		});
});

test('a 0 that may hide a signal says so in the receipt', () => {
	const { result, exitCode, message } = outcome({ kind: 'EXITED', exitCode: 0, isUnproven: true });
	expect([result, exitCode]).toEqual([Result.SUCCEEDED, 0]);
	expect(message).toContain('or ended by a real-time signal');
});

test('an end that nobody was told of is lost, and no success', () => {
	const { result, reason, exitCode, signal } = outcome({ kind: 'END_UNKNOWN' });
	expect([result, reason, exitCode, signal]).toEqual([Result.LOST, 'END_UNKNOWN', undefined, undefined]);
});
