import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Journal, type JournalFile, openJournalFile } from './journal.ts';
import { encodeRecord, journalName, readState, type StateRecord } from './state.ts';

let directory: string;
beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), 'journal-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const intent = (taskId: string): StateRecord => ({
	kind: 'INTENT',
	intent: { taskId, attempt: 1, bootId: 'boot', atMs: 1, outputCapBytes: 4096 },
});

/** A disk in memory that can be told to fail. */
class FaultyFile implements JournalFile {
	synced = '';
	#written = '';
	syncs = 0;
	fault: 'NONE' | 'APPEND' | 'SYNC' | 'ALL' = 'NONE';

	append(text: string): void {
		if (this.fault === 'APPEND' || this.fault === 'ALL') {
			this.#written += text.slice(0, text.length / 2);
			throw Object.assign(new Error('full'), { code: 'ENOSPC' });
		}
		this.#written += text;
	}

	async sync(): Promise<void> {
		this.syncs += 1;
		if (this.fault === 'SYNC' || this.fault === 'ALL') throw Object.assign(new Error('broken'), { code: 'EIO' });
		this.synced += this.#written;
		this.#written = '';
	}

	replace(text: string): void {
		if (this.fault === 'ALL') throw Object.assign(new Error('full'), { code: 'ENOSPC' });
		this.synced = text;
		this.#written = '';
	}

	close(): void {}
}

it('shares one sync among records that come together, and resolves none before it', async () => {
	const file = new FaultyFile();
	const journal = new Journal(file, () => []);
	let isFirstDurable = false;
	const first = journal.append(intent('a')).then(() => {
		isFirstDurable = true;
		expect(file.synced).toContain('"a"');
	});
	expect(isFirstDurable).toBe(false);
	await Promise.all([first, journal.append(intent('b')), journal.append(intent('c'))]);
	expect(file.syncs).toBe(1);
	expect(file.synced.split('\n').length).toBe(4);
});

it.each(['APPEND', 'SYNC'] as const)(
	'rejects at a fault in %s, and then starts from a journal written anew',
	async (fault) => {
		const file = new FaultyFile();
		const live: StateRecord[] = [];
		const journal = new Journal(file, () => live);
		live.push(intent('kept'));
		await journal.append(intent('kept'));
		file.fault = fault;
		await expect(journal.append(intent('lost'))).rejects.toMatchObject({
			message: fault === 'SYNC' ? 'broken' : 'full',
		});
		file.fault = 'NONE';
		await journal.append(intent('after'));
		expect(file.synced).toBe(encodeRecord(intent('kept')) + encodeRecord(intent('after')));
	},
);

it('takes nothing while it cannot be written anew', async () => {
	const file = new FaultyFile();
	const journal = new Journal(file, () => []);
	file.fault = 'ALL';
	await expect(journal.append(intent('a'))).rejects.toMatchObject({ code: 'ENOSPC' });
	await expect(journal.append(intent('b'))).rejects.toMatchObject({ code: 'ENOSPC' });
	expect(file.synced).toBe('');
});

it('reads what was written, over many blocks, and after being opened again', async () => {
	const path = join(directory, journalName);
	const names = Array.from({ length: 3000 }, (_, index) => `task-${index}`);
	const live: StateRecord[] = [];
	const journal = new Journal(openJournalFile(path), () => live);
	for (const name of names) {
		live.push(intent(name));
		const appended = journal.append(intent(name));
		if (name.endsWith('00')) await appended;
	}
	await journal.append(intent('last'));
	expect([...readState(directory).tasks.keys()]).toEqual([...names, 'last'].map((name) => `${name}.1`));
	expect(readState(directory).damagedLines).toBe(0);
	await journal.close();
	const again = new Journal(openJournalFile(path), () => [intent('only')]);
	again.rewrite();
	await again.append(intent('more'));
	expect([...readState(directory).tasks.keys()]).toEqual(['only.1', 'more.1']);
	await again.close();
});

it('takes a torn last line for one that never was, and counts damage', () => {
	const [a, b] = [encodeRecord(intent('a')), encodeRecord(intent('b'))];
	const read = (text: string) => {
		writeFileSync(join(directory, journalName), text);
		const { tasks, damagedLines } = readState(directory);
		return { ids: [...tasks.keys()], damagedLines };
	};
	for (let cut = 0; cut < b.length; cut += 7) {
		expect(read(a + b.slice(0, cut))).toEqual({ ids: ['a.1'], damagedLines: cut === 0 ? 0 : 1 });
	}
	expect(read(a.replace('"boot"', '"root"') + b)).toEqual({ ids: ['b.1'], damagedLines: 1 });
	expect(read(a + b + '\0'.repeat(5000))).toEqual({ ids: ['a.1', 'b.1'], damagedLines: 0 });
	expect(readFileSync(join(directory, journalName), 'latin1').length).toBeGreaterThan(5000);
});
