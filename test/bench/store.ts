import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { SqliteStore } from '../../control-plane/store/sqlite/store.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { rateDuring } from './measure.ts';
import { atLeast, type Row } from './row.ts';

/**
 * Units of work of the SQLite store, one outbox row each, from n callers at once: what group commit gives. The
 * reference is better-sqlite3 with the same settings and the same row, as many rows a transaction as there are callers.
 */
const WINDOW_MS = 500;

export const row: Row = {
	name: 'store',
	what: 'durable units of work of the SQLite store',
	unit: '1/s',
	per: 'callers',
	reference: 'bare better-sqlite3, as many rows a transaction as callers',
	targets: [atLeast(0.3, '>= 30 % of bare at 64 callers', ({ n, ratio }) => (n === 64 ? ratio?.median : undefined))],
	sizes: { full: [1, 8, 64, 640], quick: [1, 64] },
	repetitions: { full: 5, quick: 3 },
	budgetSeconds: 20,
	async open() {
		const folder = mkdtempSync(join(tmpdir(), 'gpuaas-bench-store-'));
		const store = new SqliteStore({ at: { path: join(folder, 'store.db') }, clock: systemClock });
		const bare = new Database(join(folder, 'bare.db'));
		bare.pragma('journal_mode = WAL');
		bare.pragma('synchronous = FULL');
		bare.exec(
			'CREATE TABLE outbox (id TEXT PRIMARY KEY, topic TEXT NOT NULL, key TEXT NOT NULL, at_ms INTEGER NOT NULL)',
		);
		const insert = bare.prepare('INSERT INTO outbox VALUES (?, ?, ?, ?)');
		const event = () => {
			const atMs = systemClock.now();
			return { id: uuidv7(atMs, systemRng), topic: 'tasks.changed', key: 'a task', atMs } as const;
		};
		return {
			async run(n) {
				const { rate } = await rateDuring(WINDOW_MS, n, () => store.unit((tx) => tx.outbox.append(event())));
				const group = bare.transaction((rows: number) => {
					for (let done = 0; done < rows; done += 1) {
						const { id, topic, key, atMs } = event();
						insert.run(id, topic, key, atMs);
					}
				});
				const groups = await rateDuring(WINDOW_MS, 1, () => group(n));
				return { value: rate, reference: n * groups.rate };
			},
			async [Symbol.asyncDispose]() {
				await store[Symbol.asyncDispose]();
				bare.close();
				rmSync(folder, { recursive: true, force: true });
			},
		};
	},
};
