import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import Database from 'better-sqlite3';
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

describe('journal on disk', () => {
	const append = (path: string, ...wrap: string[]) => {
		const [command = '', ...args] = [...wrap, process.execPath, join(import.meta.dirname, 'append-until.ts'), path];
		const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
		return { child, lines: createInterface({ input: child.stdout }) };
	};

	it('has every fact that it said was committed after kill -9', async () => {
		const path = join(folder, 'killed.db');
		const { child, lines } = append(path);
		let said = 0n;
		for await (const line of lines) {
			said = BigInt(line);
			if (said === 200n) child.kill('SIGKILL');
		}
		const journal = new SqliteJournal({ path });
		// Until the signal reached it, it went on.
		const last = Number(journal.lastFactSeq());
		expect(last).toBeGreaterThanOrEqual(Number(said));
		expect(journal.listFacts(0n, last + 1).map(({ seq }) => seq)).toEqual(
			Array.from({ length: last }, (_, index) => BigInt(index + 1)),
		);
		expect(journal.appendFacts([startedFact()])[0]?.seq).toBe(journal.lastFactSeq());
		journal.close();
	});

	it('says that its disk is full, keeps what it has, and goes on when there is room', async () => {
		const path = join(folder, 'full.db');
		const { child, lines } = append(path, 'prlimit', '--fsize=200000');
		const said: string[] = [];
		const exited = once(child, 'exit');
		for await (const line of lines) said.push(line);
		await exited;
		const [seq = '', reason, phase, listed] = said.slice(-4);
		expect(['DISK_FULL', 'STORE_UNAVAILABLE']).toContain(reason);
		expect(phase).toBe('accepted');
		// What Hello says needs no room.
		expect(listed).toBe('1 open, 0 pending');
		const journal = new SqliteJournal({ path });
		expect(journal.lastFactSeq()).toBe(BigInt(seq));
		expect(journal.appendFacts([startedFact()])).toHaveLength(1);
		journal.close();
	});

	it("goes on with the grants of a former format, in nobody's share", () => {
		const path = join(folder, 'former.db');
		const fill = new SqliteJournal({ path });
		for (const id of ['one', 'two', 'three']) fill.takeGrant({ id, holder: '', person: id, keepUntilMs: 1000 }, 1);
		fill.close();
		const db = new Database(path);
		db.exec(`DROP TRIGGER grants_taken; DROP TRIGGER grants_expired; DROP TABLE grant_shares;
			DROP TRIGGER grants_taken_by; DROP TRIGGER grants_expired_by; DROP TABLE grant_people;
			ALTER TABLE grants DROP COLUMN holder; ALTER TABLE grants DROP COLUMN person; PRAGMA user_version = 2`);
		db.close();
		const journal = new SqliteJournal({ path, grantsMax: 5 });
		const take = (id: string, nowMs: number) =>
			journal.takeGrant({ id, holder: '', person: id, keepUntilMs: 5000 }, nowMs);
		expect(journal.hasGrant('one')).toBe(true);
		expect([take('one', 1), take('four', 1)]).toEqual([false, true]);
		expect(() => take('five', 1)).toThrow(/within an hour/);
		expect([take('one', 1001), take('five', 1001)]).toEqual([true, true]);
		expect(() => take('six', 1001)).toThrow(/within an hour/);
		journal.close();
	});

	it('writes nothing at a start, which a full disk would refuse', () => {
		const path = join(folder, 'started.db');
		new SqliteJournal({ path }).close();
		const before = readFileSync(path);
		new SqliteJournal({ path }).close();
		expect(readFileSync(path).equals(before)).toBe(true);
	});

	it('lets no second agent in', () => {
		const path = join(folder, 'shared.db');
		const journal = new SqliteJournal({ path });
		expect(() => new SqliteJournal({ path })).toThrow(/locked/);
		journal.close();
	});
});
