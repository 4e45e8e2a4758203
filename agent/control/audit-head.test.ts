import { describe, expect, it, test } from 'vitest';
import { type Logger, silentLogger } from '../../kit/log.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { AUDIT_HEAD, formerHeads, HEAD_WENT_BACK, KeptAuditHead, NEW_LOG } from './audit-head.ts';

function head(size: number, chainByte = 1, origin = 'a.test/audit-chain/v1', signature = 'c2ln'): string {
	return `${origin}\n${size}\n${Buffer.alloc(32, chainByte).toString('base64')}\n\n— a.test/audit ${signature}\n`;
}

function witness(former?: MemoryJournal) {
	const disk = { isFull: false };
	const journal = former ?? new MemoryJournal({ fault: () => (disk.isFull ? 'FULL' : undefined) });
	const errors: string[] = [];
	const log: Logger = { ...silentLogger, error: (message) => errors.push(message) };
	const kept = new KeptAuditHead(journal, log);
	const facts = () =>
		journal.listFacts(0n, 100).map(({ fact }) => (fact.case === 'agentAudit' ? fact.value : undefined));
	return { journal, errors, kept, facts, disk };
}

test('the larger head replaces the kept one, in the order of numbers', () => {
	const { kept, journal, errors } = witness();
	for (const size of [9, 10, 100]) {
		kept.shown(head(size));
		expect(journal.getSetting(AUDIT_HEAD)).toBe(head(size));
	}
	kept.shown(head(100, 1, undefined, 'YW5vdGhlcg=='));
	kept.shown('');
	kept.shown('no head');
	expect(kept.note()).toBe(head(100));
	expect(errors).toEqual([]);
});

test('a full disk costs neither the link nor the witness: a head is held, and stored when there is room', () => {
	const { kept, journal, errors, facts, disk } = witness();
	kept.shown(head(9));
	disk.isFull = true;
	for (const size of [10, 11, 11]) kept.shown(head(size));
	expect([kept.note(), journal.getSetting(AUDIT_HEAD)]).toEqual([head(11), head(9)]);
	expect(errors).toHaveLength(1);
	// What went back behind the head that is only held is seen, and on record once that is possible.
	kept.shown(head(10));
	disk.isFull = false;
	for (const size of [10, 10, 11]) kept.shown(head(size));
	expect(errors).toHaveLength(2);
	expect(facts()).toMatchObject([{ action: HEAD_WENT_BACK }]);
	expect(journal.getSetting(AUDIT_HEAD)).toBe(head(11));
});

test.each([
	['smaller', head(99)],
	['of the same size with another chain', head(100, 2)],
	['of another log', head(200, 1, 'b.test/audit-chain/v1')],
])('a head that is %s is told once and never kept', (_what, shown) => {
	const { kept, journal, errors, facts } = witness();
	kept.shown(head(100));
	kept.shown(shown);
	kept.shown(shown);
	expect(kept.note()).toBe(head(100));
	expect(errors).toHaveLength(1);
	expect(facts()).toMatchObject([{ action: HEAD_WENT_BACK }]);
	expect(facts()[0]?.detail).toMatch(/^kept a\.test\S+ 100 .*; shown .*/);
	// The next connection tells it again.
	const next = witness(journal);
	next.kept.shown(shown);
	expect(next.errors).toHaveLength(1);
	expect(facts()).toHaveLength(2);
});

describe('a log that was begun after the kept one', () => {
	const second = 'a.test/audit-chain/v1/log-2';
	const third = 'a.test/audit-chain/v1/log-3';

	it('takes its place, is told once for ever, and leaves the former head as evidence', () => {
		const { kept, journal, facts } = witness();
		kept.shown(head(100));
		kept.shown(head(60, 3, second));
		expect(kept.note()).toBe(head(60, 3, second));
		expect(formerHeads(journal)).toEqual([{ log: 1, note: head(100) }]);
		for (const size of [61, 62]) witness(journal).kept.shown(head(size, 3, second));
		expect(kept.note()).toBe(head(62, 3, second));
		expect(facts()).toMatchObject([{ action: NEW_LOG }]);
		expect(facts()[0]?.detail).toMatch(/^kept a\.test\/audit-chain\/v1 100 .*; shown \S+\/log-2 60 /);
		kept.shown(head(70, 4, third));
		expect(formerHeads(journal).map(({ log }) => log)).toEqual([1, 2]);
	});

	it('is witnessed as the first was: one that is cut off, or the former again, is told and not kept', () => {
		for (const back of [head(61, 3, second), head(200)]) {
			const { kept, facts } = witness();
			kept.shown(head(100));
			kept.shown(head(62, 3, second));
			kept.shown(back);
			expect(kept.note()).toBe(head(62, 3, second));
			expect(facts()).toMatchObject([{ action: NEW_LOG }, { action: HEAD_WENT_BACK }]);
		}
	});

	it('is not the log of another trust domain', () => {
		const { kept, journal, facts } = witness();
		kept.shown(head(100));
		kept.shown(head(200, 1, 'b.test/audit-chain/v1/log-2'));
		expect([kept.note(), formerHeads(journal)]).toEqual([head(100), []]);
		expect(facts()).toMatchObject([{ action: HEAD_WENT_BACK }]);
	});

	it('is not half accepted when the journal takes nothing, and is accepted with the next head', () => {
		const { kept, journal, facts, disk } = witness();
		kept.shown(head(100));
		disk.isFull = true;
		kept.shown(head(60, 3, second));
		expect([kept.note(), formerHeads(journal), facts()]).toEqual([head(100), [], []]);
		disk.isFull = false;
		kept.shown(head(61, 3, second));
		expect(kept.note()).toBe(head(61, 3, second));
		expect(facts()).toMatchObject([{ action: NEW_LOG }]);
	});

	it('keeps the first of more former heads than there is room for', () => {
		const { kept, journal } = witness();
		kept.shown(head(100));
		for (let log = 2; log <= 20; log += 1) kept.shown(head(log, 1, `a.test/audit-chain/v1/log-${log}`));
		expect(formerHeads(journal).map(({ log }) => log)).toEqual(Array.from({ length: 16 }, (_, index) => index + 1));
		expect(kept.note()).toContain('/log-20\n');
	});
});
