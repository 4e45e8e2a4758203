import { create } from '@bufbuild/protobuf';
import { beforeEach, describe, expect, it } from 'vitest';
import type { AttemptRow, Journal } from '../../../agent/journal/journal.ts';
import type { JournalLimits } from '../../../agent/journal/rows.ts';
import { type Fact, FactSchema } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';

/** One implementation under test: `reopen` is a crash, everything but the last commit is gone. */
export interface JournalHarness {
	open(limits?: Partial<JournalLimits>): Journal;
	reopen(): Journal;
}

const TASK = '0190a1b2-0000-7000-8000-000000000001';

export function attemptRow(change: Partial<AttemptRow> = {}): AttemptRow {
	return {
		taskId: TASK,
		attempt: 1,
		fencingToken: 7n,
		phase: 'accepted',
		envelope: new Uint8Array([1, 2, 3]),
		envelopeSha256: new Uint8Array([9, 9]),
		acceptedAtMs: 1000,
		bootId: 'boot-1',
		cancelReason: '',
		outputStored: false,
		...change,
	};
}

export function startedFact(attempt = 1): Fact {
	return create(FactSchema, {
		fact: { case: 'taskStarted', value: { taskId: TASK, attempt, fencingToken: 7n, pid: 3 } },
	});
}

export function refusedFact(attempt = 1): Fact {
	return create(FactSchema, {
		fact: { case: 'taskRefused', value: { taskId: TASK, attempt, fencingToken: 7n, reason: 'POLICY_KIND' } },
	});
}

export function journalContract(name: string, make: () => JournalHarness): void {
	describe(`journal contract: ${name}`, () => {
		let harness: JournalHarness;
		beforeEach(() => {
			harness = make();
		});

		it('numbers facts from 1, lists them after a seq and within a limit', () => {
			const journal = harness.open();
			expect(journal.appendFacts([startedFact(), startedFact(2)]).map((fact) => fact.seq)).toEqual([1n, 2n]);
			journal.appendFacts([startedFact(3)]);
			expect(journal.listFacts(0n, 2).map((fact) => fact.seq)).toEqual([1n, 2n]);
			expect(journal.listFacts(2n, 10).map((fact) => fact.fact.value?.toString())).toHaveLength(1);
			expect(journal.lastFactSeq()).toBe(3n);
		});

		it('forgets acknowledged facts and never gives a number out twice, also after a crash', () => {
			const journal = harness.open();
			journal.appendFacts([startedFact(), startedFact(), startedFact()]);
			journal.ackFacts(2n);
			expect(journal.usage().unackedFacts).toBe(1);
			journal.ackFacts(3n);
			journal.putSetting('x', 'y');
			const again = harness.reopen();
			expect(again.listFacts(0n, 10)).toEqual([]);
			expect(again.appendFacts([startedFact()])[0]?.seq).toBe(4n);
			expect(again.getSetting('x')).toBe('y');
		});

		it('renumbers above an ack that it never earned: the old journal was lost', () => {
			const journal = harness.open();
			journal.putAttempt(attemptRow({ phase: 'finished', outputStored: true }));
			journal.appendFacts([startedFact(), refusedFact()]);
			journal.ackFacts(500n);
			expect(journal.listFacts(500n, 10).map((fact) => fact.seq)).toEqual([501n, 502n]);
			expect(journal.getAttempt(TASK, 1)?.phase).toBe('finished');
			journal.ackFacts(502n);
			expect(journal.getAttempt(TASK, 1)?.phase).toBe('done');
			expect(harness.reopen().appendFacts([startedFact()])[0]?.seq).toBe(503n);
		});

		it('keeps an attempt as it was put, and its newest one', () => {
			const journal = harness.open();
			journal.putAttempt(attemptRow());
			journal.putAttempt(attemptRow({ attempt: 2, fencingToken: 2n ** 62n, bootId: 'boot-2' }));
			expect(journal.getAttempt(TASK, 1)).toEqual(attemptRow());
			const again = harness.reopen();
			expect(again.latestAttempt(TASK)).toEqual(attemptRow({ attempt: 2, fencingToken: 2n ** 62n, bootId: 'boot-2' }));
			expect(again.getAttempt(TASK, 3)).toBeUndefined();
			expect(again.latestAttempt('other')).toBeUndefined();
		});

		it('calls an attempt done only when its end is acknowledged and its output stored', () => {
			const journal = harness.open();
			journal.putAttempt(attemptRow({ phase: 'finished', outputStored: true }));
			journal.appendFacts([startedFact(), refusedFact()]);
			journal.ackFacts(1n);
			expect(journal.listOpenAttempts()).toHaveLength(1);
			journal.ackFacts(2n);
			expect(journal.listOpenAttempts()).toHaveLength(0);

			journal.putAttempt(attemptRow({ attempt: 2, phase: 'finished' }));
			journal.appendFacts([refusedFact(2)]);
			journal.ackFacts(3n);
			expect(journal.listOutputPending().map((row) => row.attempt)).toEqual([2]);
			journal.putAttempt(attemptRow({ attempt: 2, phase: 'finished', outputStored: true }));
			expect(journal.listOpenAttempts()).toHaveLength(0);
			expect(journal.listOutputPending()).toHaveLength(0);
		});

		it('commits a transaction as a whole or not at all, with its numbers and its bytes', () => {
			const journal = harness.open();
			journal.appendFacts([startedFact()]);
			const before = journal.usage();
			expect(() =>
				journal.transaction(() => {
					journal.putAttempt(attemptRow());
					journal.transaction(() => journal.appendFacts([startedFact(), refusedFact()]));
					journal.putSetting('cursor', '9');
					throw new Error('the caller fails');
				}),
			).toThrow('the caller fails');
			expect(journal.usage()).toEqual(before);
			expect(journal.getAttempt(TASK, 1)).toBeUndefined();
			expect(journal.getSetting('cursor')).toBeUndefined();
			expect(journal.appendFacts([startedFact()])[0]?.seq).toBe(2n);
		});

		it('wakes its listener once after the outermost commit, and not after a failure', () => {
			const journal = harness.open();
			const seen: bigint[] = [];
			journal.onFacts(() => seen.push(journal.lastFactSeq()));
			journal.transaction(() => {
				journal.appendFacts([startedFact()]);
				expect(seen).toEqual([]);
				journal.transaction(() => journal.appendFacts([startedFact()]));
			});
			expect(seen).toEqual([2n]);
			journal.putSetting('a', 'b');
			expect(() =>
				journal.transaction(() => {
					journal.appendFacts([startedFact()]);
					throw new Error('no');
				}),
			).toThrow();
			expect(seen).toEqual([2n]);
		});

		it('remembers who may not come again after it forgot the rest', () => {
			const journal = harness.open({ replayKeepMs: 5000 });
			journal.putAttempt(attemptRow({ phase: 'done' }));
			journal.putAttempt(attemptRow({ attempt: 2, phase: 'started', acceptedAtMs: 1001 }));
			const before = journal.usage().bytes;
			journal.prune(2000);
			expect(journal.usage().bytes).toBeLessThan(before);
			expect(journal.getAttempt(TASK, 1)).toMatchObject({
				phase: 'done',
				fencingToken: 7n,
				envelope: new Uint8Array(),
			});
			expect(journal.getAttempt(TASK, 2)?.phase).toBe('started');
			expect(journal.latestAttempt(TASK)?.attempt).toBe(2);
			expect(harness.reopen().getAttempt(TASK, 1)?.fencingToken).toBe(7n);
			const again = harness.reopen();
			again.prune(7000);
			expect(again.getAttempt(TASK, 1)).toBeUndefined();
		});

		it('counts what it holds the same way after it was opened again', () => {
			const journal = harness.open({ bytesMax: 12345 });
			journal.putAttempt(attemptRow({ envelope: new Uint8Array(1000) }));
			journal.putAttempt(attemptRow({ attempt: 2, phase: 'done', acceptedAtMs: 1 }));
			journal.appendFacts([startedFact(), refusedFact(), startedFact()]);
			journal.ackFacts(1n);
			journal.prune(2);
			const { bytes, bytesMax, unackedFacts } = journal.usage();
			expect(bytesMax).toBe(12345);
			expect(unackedFacts).toBe(2);
			expect(bytes).toBeGreaterThan(1000);
			expect(harness.reopen().usage()).toMatchObject({ bytes, unackedFacts });
		});
	});
}
