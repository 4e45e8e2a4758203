import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { describe, expect, it } from 'vitest';
import { TaskRefusedSchema, TaskStartedSchema } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';
import { TaskOutcomeSchema, TaskResult } from '../../../proto/gen/gpuaas/link/v1/task_documents_pb.ts';
import type { TaskRow, TaskState } from '../../store/port/tasks.ts';
import { isSameAttempt, type TaskFact, transition } from './transition.ts';

const NOW = 10_000;
const ROW = {
	state: 'leased',
	attempt: 1,
	attemptsMax: 1,
	fencingToken: 7,
	createdAtMs: 1000,
	queueDeadlineMs: 20_000,
	acceptedAtMs: null,
	startedAtMs: null,
	cancelRequestedAtMs: null,
	limitsEnforcedBy: '',
} as TaskRow;
const row = (change: Partial<TaskRow> = {}): TaskRow => ({ ...ROW, ...change });

const refused = (change: MessageInitShape<typeof TaskRefusedSchema> = {}): TaskFact => ({
	kind: 'refused',
	fact: create(TaskRefusedSchema, { reason: 'POLICY_KIND', ...change }),
});
const started = (atMs = 5000): TaskFact => ({
	kind: 'started',
	fact: create(TaskStartedSchema, { limitsEnforcedBy: 'rlimit' }),
	atMs,
});
const finished = (change: MessageInitShape<typeof TaskOutcomeSchema> = {}): TaskFact => ({
	kind: 'finished',
	outcome: create(TaskOutcomeSchema, { result: TaskResult.SUCCEEDED, exitCode: 0, ...change }),
	stored: true,
});
const ENDED: readonly TaskState[] = ['succeeded', 'failed', 'cancelled', 'timed_out', 'refused'];

describe('transition', () => {
	it('goes from leased through running to the result', () => {
		expect(transition(row(), { kind: 'accepted' }, NOW)).toEqual({ acceptedAtMs: NOW });
		expect(transition(row(), started(), NOW)).toMatchObject({ state: 'running', startedAtMs: 5000, acceptedAtMs: NOW });
		expect(transition(row({ state: 'running', startedAtMs: 5000 }), finished(), NOW)).toMatchObject({
			state: 'succeeded',
			exitCode: 0,
			outputComplete: true,
		});
	});

	it.each([
		[TaskResult.FAILED, 'failed'],
		[TaskResult.CANCELLED, 'cancelled'],
		[TaskResult.TIMED_OUT, 'timed_out'],
		[TaskResult.LOST, 'lost'],
		[TaskResult.UNSPECIFIED, 'lost'],
	] as const)('takes result %s for %s', (result, state) => {
		expect(transition(row({ state: 'running' }), finished({ result }), NOW)).toMatchObject({ state });
	});

	it('believes the clock of the agent only between what the server knows', () => {
		expect(transition(row(), started(50_000), NOW)).toMatchObject({ startedAtMs: NOW });
		expect(transition(row(), started(0), NOW)).toMatchObject({ startedAtMs: 1000 });
		const late = finished({ endedAt: timestampFromMs(99_000), startedAt: timestampFromMs(2000) });
		expect(transition(row(), late, NOW)).toMatchObject({ startedAtMs: 2000, endedAtMs: NOW });
	});

	it('keeps a cancelling task cancelling until it ends', () => {
		const cancelling = row({ state: 'cancelling', cancelRequestedAtMs: 4000 });
		expect(transition(cancelling, started(), NOW)).not.toHaveProperty('state');
		expect(transition(cancelling, refused({ reason: 'CANCELLED' }), NOW)).toMatchObject({ state: 'cancelled' });
		expect(transition(cancelling, refused({ reason: 'POLICY_USER' }), NOW)).toMatchObject({ state: 'refused' });
		expect(transition(cancelling, finished(), NOW)).toMatchObject({ state: 'succeeded' });
	});

	it('tries again only what certainly did not start, while attempts and time are left', () => {
		const again = refused({ reason: 'JOURNAL_FULL', retryable: true });
		expect(transition(row({ attemptsMax: 2 }), again, NOW)).toMatchObject({ state: 'queued', acceptedAtMs: null });
		expect(transition(row(), again, NOW)).toMatchObject({ state: 'refused', reason: 'JOURNAL_FULL' });
		expect(transition(row({ attemptsMax: 2 }), again, 20_000)).toMatchObject({ state: 'refused' });
		expect(transition(row({ attemptsMax: 2 }), refused(), NOW)).toMatchObject({ state: 'refused' });
		expect(transition(row({ attemptsMax: 2, startedAtMs: 5 }), again, NOW)).toBeUndefined();
		const cancelled = row({ state: 'cancelling', attemptsMax: 2, cancelRequestedAtMs: 1 });
		expect(transition(cancelled, again, NOW)).toMatchObject({ state: 'cancelled' });
		expect(transition(row({ state: 'lost', attemptsMax: 2 }), again, NOW)).toMatchObject({ state: 'refused' });
	});

	it('lets a late answer replace lost, and nothing else that has ended', () => {
		expect(transition(row({ state: 'lost' }), finished(), NOW)).toMatchObject({ state: 'succeeded' });
		for (const state of ENDED)
			for (const fact of [finished(), started(), refused(), { kind: 'accepted' } as const])
				expect(transition(row({ state }), fact, NOW)).toBeUndefined();
	});

	it('loses a task whose receipt can not be believed, and still believes a later one', () => {
		const invalid = { kind: 'receipt-invalid', message: 'no' } as const;
		const lost = transition(row({ state: 'running' }), invalid, NOW);
		expect(lost).toMatchObject({ state: 'lost', reason: 'RECEIPT_INVALID' });
		expect(transition(row({ state: 'succeeded' }), invalid, NOW)).toBeUndefined();
	});

	it('takes facts of the newest attempt and its token only', () => {
		expect(isSameAttempt(row(), { attempt: 1, fencingToken: 7n })).toBe(true);
		expect(isSameAttempt(row(), { attempt: 2, fencingToken: 7n })).toBe(false);
		expect(isSameAttempt(row(), { attempt: 1, fencingToken: 6n })).toBe(false);
		expect(isSameAttempt(row(), { attempt: 1, fencingToken: 0n })).toBe(false);
		expect(isSameAttempt(row({ cancelRequestedAtMs: 1 }), { attempt: 1, fencingToken: 0n })).toBe(true);
	});
});
