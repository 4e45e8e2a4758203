import { create } from '@bufbuild/protobuf';
import { beforeEach, describe, expect, it } from 'vitest';
import type { AttemptRow, GrantRow, Journal } from '../../../agent/journal/journal.ts';
import type { JournalLimits } from '../../../agent/journal/rows.ts';
import { type Fact, FactSchema } from '../../../proto/gen/gpuaas/link/v1/link_pb.ts';

/** One implementation under test: `reopen` is a crash, everything but the last commit is gone. */
export interface JournalHarness {
	open(limits?: Partial<JournalLimits>): Journal;
	reopen(): Journal;
}

const TASK = '0190a1b2-0000-7000-8000-000000000001';

const grantRow = (id: string, change: Partial<GrantRow> = {}): GrantRow => ({
	id,
	holder: 'acme',
	// Somebody else each time.
	person: id,
	keepUntilMs: 1000,
	...change,
});

/** Takes until it is refused; how many were new. */
function takeAll(journal: Journal, holder: string, change: Partial<GrantRow> = {}, nowMs = 1): number {
	let taken = 0;
	for (let index = 0; ; index += 1) {
		try {
			const grant = grantRow(`${holder}-${nowMs}-${index}`, { holder, ...change });
			if (journal.takeGrant(grant, nowMs)) taken += 1;
		} catch (error) {
			expect(error).toMatchObject({ reason: 'JOURNAL_FULL' });
			return taken;
		}
	}
}

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
			// One that nobody has proven is known, and is the newest of nothing; also when its row is gone.
			again.putAttempt(attemptRow({ attempt: 9, fencingToken: 0n, phase: 'finished', outputStored: true }));
			again.appendFacts([refusedFact(9)]);
			for (const beforeMs of [0, 2000]) {
				again.ackFacts(1n);
				again.prune(beforeMs);
				expect([again.latestAttempt(TASK)?.attempt, again.getAttempt(TASK, 9)?.fencingToken]).toEqual([2, 0n]);
			}
			expect(harness.reopen().latestAttempt(TASK)?.attempt).toBe(2);
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
			expect(journal.getAttempt(TASK, 2)?.phase).toBe('finished');
			expect(journal.listOutputPending().map((row) => row.attempt)).toEqual([2]);
			journal.putAttempt(attemptRow({ attempt: 2, phase: 'finished', outputStored: true }));
			expect(journal.listOpenAttempts()).toHaveLength(0);
			expect(journal.listOutputPending()).toHaveLength(0);
		});

		it('takes a grant once, also after a crash, until nothing could pass it off as new', () => {
			const journal = harness.open();
			expect(journal.hasGrant('one')).toBe(false);
			expect(journal.takeGrant(grantRow('one'), 1)).toBe(true);
			expect(journal.takeGrant(grantRow('one'), 1)).toBe(false);
			expect(journal.takeGrant(grantRow('one', { holder: 'other' }), 1)).toBe(false);
			expect(journal.takeGrant(grantRow('two'), 1)).toBe(true);
			const again = harness.reopen();
			expect(again.hasGrant('one')).toBe(true);
			expect(again.takeGrant(grantRow('one'), 1000)).toBe(false);
			expect(again.takeGrant(grantRow('one', { keepUntilMs: 3000 }), 1001)).toBe(true);
			expect(again.hasGrant('two')).toBe(false);
		});

		it('takes a grant with what is said about it, or neither', () => {
			const journal = harness.open();
			const taking = () =>
				journal.transaction(() => {
					journal.takeGrant(grantRow('one'), 1);
					journal.appendFacts([startedFact()]);
					throw new Error('in the middle');
				});
			expect(taking).toThrow('in the middle');
			expect(journal.listFacts(0n, 10)).toEqual([]);
			expect(harness.reopen().takeGrant(grantRow('one'), 1)).toBe(true);
		});

		it('lets no grant go early to make room, and knows those it has however full it is', () => {
			const journal = harness.open({ grantsMax: 4 });
			for (const holder of ['acme', 'bell', 'cord']) takeAll(journal, holder);
			expect(takeAll(journal, 'acme', { keepUntilMs: 1 })).toBe(0);
			expect(journal.hasGrant('acme-1-0')).toBe(true);
			expect(journal.takeGrant(grantRow('acme-1-0'), 1000)).toBe(false);
			expect(() => journal.takeGrant(grantRow('one more'), 1000)).toThrow(/within an hour/);
			expect(journal.takeGrant(grantRow('one more'), 1001)).toBe(true);
		});

		it('leaves room for the grants of all others, whoever takes all they can', () => {
			const journal = harness.open({ grantsMax: 64 });
			expect(takeAll(journal, 'acme')).toBe(32);
			// The platform's own.
			expect(takeAll(journal, '')).toBe(16);
			expect(takeAll(journal, 'bell', { keepUntilMs: 5000 })).toBe(8);
			expect(takeAll(journal, 'acme')).toBe(0);
			expect(journal.takeGrant(grantRow('first', { holder: 'cord', keepUntilMs: 5000 }), 1)).toBe(true);
			// What has expired is given back to all: 9 of the 64 are still kept.
			expect(takeAll(journal, 'acme', { keepUntilMs: 5000 }, 2000)).toBe(28);
			expect(takeAll(journal, 'bell', { keepUntilMs: 5000 }, 2000)).toBe(10);
		});

		it('leaves room for the other people of a holder, whoever of them takes all they can', () => {
			const journal = harness.open({ grantsMax: 90 });
			expect(takeAll(journal, 'acme', { person: 'ada' })).toBe(30);
			expect(() => journal.takeGrant(grantRow('more', { person: 'ada' }), 1)).toThrow(/your own share/);
			expect(journal.takeGrant(grantRow('of bo', { person: 'bo' }), 1)).toBe(true);
			// The same name elsewhere is another's.
			expect(journal.takeGrant(grantRow('elsewhere', { holder: 'bell', person: 'ada' }), 1)).toBe(true);
			// What has expired is given back, to people as to holders.
			expect(takeAll(harness.open({ grantsMax: 90 }), 'acme', { person: 'ada', keepUntilMs: 5000 }, 2000)).toBe(30);
		});

		it('counts shares as they were before a commit that failed, and after a crash', () => {
			const journal = harness.open({ grantsMax: 8 });
			expect(() =>
				journal.transaction(() => {
					for (const id of ['one', 'two', 'three', 'four']) journal.takeGrant(grantRow(id), 1);
					throw new Error('in the middle');
				}),
			).toThrow('in the middle');
			expect(takeAll(journal, 'acme')).toBe(4);
			expect(takeAll(harness.open({ grantsMax: 8 }), 'acme')).toBe(0);
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
