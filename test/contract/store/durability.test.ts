import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Store } from '../../../control-plane/store/port/store.ts';
import { eventually } from '../../eventually.ts';
import { PostgresServer } from '../../fakes/postgres.ts';
import { openAt, temporaryFolder } from './stores.ts';

/** Writes outbox rows as fast as it can and prints the id of each once it is acknowledged. */
const WRITER = join(import.meta.dirname, 'acknowledging-writer.ts');
const ACKNOWLEDGED_MIN = 300;

/** Runs the writer, kills it with SIGKILL in the middle, and gives what it had acknowledged. */
async function acknowledgedBeforeKill(url: string, round: number): Promise<string[]> {
	const writer = spawn(process.execPath, [WRITER, url, String(round)], { stdio: ['ignore', 'pipe', 'inherit'] });
	const ended = new Promise((resolve) => writer.once('exit', resolve));
	const ids: string[] = [];
	for await (const line of createInterface({ input: writer.stdout })) {
		ids.push(line);
		if (ids.length === ACKNOWLEDGED_MIN) writer.kill('SIGKILL');
	}
	await ended;
	return ids;
}

async function missing(store: Store, ids: readonly string[]): Promise<string[]> {
	const there = new Set<string>();
	for (;;) {
		const taken = await store.unit((tx) => tx.outbox.take(1000));
		for (const { id } of taken) there.add(id);
		if (taken.length < 1000) return ids.filter((id) => !there.has(id));
	}
}

describe('durability', () => {
	let server: PostgresServer;
	beforeAll(async () => {
		server = await PostgresServer.start();
	});
	afterAll(() => server[Symbol.asyncDispose]());

	test('SQLite: a commit that was acknowledged is in the log of the file, and the log is synced each time', async () => {
		using folder = temporaryFolder();
		await using store = await openAt(join(folder.path, 'store.db'));
		const pragma = (name: string) =>
			store.unit(function* () {
				return (yield { sql: `pragma ${name}`, parameters: [] }).rows;
			});
		expect(await pragma('journal_mode')).toEqual([{ journal_mode: 'wal' }]);
		// FULL: NORMAL would sync at checkpoints only, and a power cut would take back what was acknowledged since.
		expect(await pragma('synchronous')).toEqual([{ synchronous: 2 }]);
	});

	test('SQLite: kill -9 of the process loses nothing that was acknowledged', async () => {
		using folder = temporaryFolder();
		const path = join(folder.path, 'store.db');
		for (let round = 0; round < 3; round += 1) {
			const ids = await acknowledgedBeforeKill(path, round);
			expect(ids.length).toBeGreaterThanOrEqual(ACKNOWLEDGED_MIN);
			await using store = await openAt(path);
			expect(await missing(store, ids)).toEqual([]);
		}
	});

	test('PostgreSQL: kill -9 of the process loses nothing that was acknowledged', async () => {
		const url = await server.createDatabase();
		const ids = await acknowledgedBeforeKill(url, 0);
		await using store = await openAt(url);
		expect(await missing(store, ids)).toEqual([]);
	});

	test.each(['fast', 'immediate'] as const)(
		'PostgreSQL: a restart (%s) in the middle loses nothing that was acknowledged, and the store comes back',
		async (how) => {
			await using own = await PostgresServer.start();
			await using store = await openAt(await own.createDatabase());
			const acknowledged: string[] = [];
			const reasons = new Set<unknown>();
			let stopped = false;
			const write = async (writer: number) => {
				for (let index = 0; !stopped; index += 1) {
					const id = `${writer}-${index}`;
					await store
						.unit((tx) => tx.outbox.append({ id, topic: 't', key: 'k', atMs: 1 }))
						.then(
							() => acknowledged.push(id),
							(error: { reason?: unknown }) => reasons.add(error.reason ?? error),
						);
				}
			};
			const writers = Promise.all([1, 2, 3, 4].map(write));
			await eventually('rows before the restart', () => acknowledged.length > 100);
			await own.stop(how);
			await eventually('a refusal while it is down', () => reasons.size > 0);
			await own.boot();
			const before = acknowledged.length;
			await eventually('rows after the restart', () => acknowledged.length > before + 100);
			stopped = true;
			await writers;
			expect([...reasons]).toEqual(['STORE_UNAVAILABLE']);
			expect(await missing(store, acknowledged)).toEqual([]);
			await store.check();
		},
	);
});
