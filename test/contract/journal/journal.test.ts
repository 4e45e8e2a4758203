import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Journal } from '../../../agent/journal/journal.ts';
import { MemoryJournal } from '../../../agent/journal/memory.ts';
import type { JournalLimits } from '../../../agent/journal/rows.ts';
import { SqliteJournal } from '../../../agent/journal/sqlite.ts';
import { attemptRow, journalContract, startedFact } from './journal.contract.ts';

const folder = mkdtempSync(join(tmpdir(), 'journal-'));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;

journalContract('SQLite', () => {
	files += 1;
	const path = join(folder, `${files}.db`);
	let journal: Journal | undefined;
	const open = (limits?: Partial<JournalLimits>) => {
		journal?.close();
		journal = new SqliteJournal({ path, ...limits });
		return journal;
	};
	return { open, reopen: () => open({ replayKeepMs: 5000 }) };
});

journalContract('memory', () => {
	let journal: MemoryJournal | undefined;
	const open = (limits: Partial<JournalLimits> = {}) => {
		journal = new MemoryJournal({ ...limits, ...(journal && { state: journal.committed() }) });
		return journal;
	};
	return { open, reopen: () => open({ replayKeepMs: 5000 }) };
});

describe('memory journal faults', () => {
	it.each(['FULL', 'IOERR'] as const)('undoes a commit that meets %s', (kind) => {
		let fault: 'FULL' | 'IOERR' | undefined;
		const journal = new MemoryJournal({ fault: () => fault });
		journal.putAttempt(attemptRow());
		journal.appendFacts([startedFact(), startedFact()]);
		const before = journal.committed();
		fault = kind;
		expect(() => journal.putAttempt(attemptRow({ phase: 'finished' }))).toThrow(/journal/);
		expect(() => journal.ackFacts(2n)).toThrow(/journal/);
		expect(() => journal.prune(1e9)).toThrow(/journal/);
		expect(journal.committed()).toEqual(before);
		fault = undefined;
		expect(journal.appendFacts([startedFact()])[0]?.seq).toBe(3n);
	});
});
