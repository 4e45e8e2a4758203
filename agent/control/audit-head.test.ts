import { expect, test } from 'vitest';
import { type Logger, silentLogger } from '../../kit/log.ts';
import { MemoryJournal } from '../journal/memory.ts';
import { AUDIT_HEAD, HEAD_WENT_BACK, KeptAuditHead } from './audit-head.ts';

function head(size: number, chainByte = 1, origin = 'a.test/audit-chain/v1', signature = 'c2ln'): string {
	return `${origin}\n${size}\n${Buffer.alloc(32, chainByte).toString('base64')}\n\n— a.test/audit ${signature}\n`;
}

function witness(journal = new MemoryJournal()) {
	const errors: string[] = [];
	const log: Logger = { ...silentLogger, error: (message) => errors.push(message) };
	const kept = new KeptAuditHead(journal, log);
	const facts = () =>
		journal.listFacts(0n, 100).map(({ fact }) => (fact.case === 'agentAudit' ? fact.value : undefined));
	return { journal, errors, kept, facts };
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
