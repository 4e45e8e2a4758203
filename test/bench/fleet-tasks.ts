import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { systemClock } from '../../kit/clock.ts';
import { cpuPerTask } from './cpu.ts';
import { FleetWorld } from './fleet-world.ts';
import { timed, untilDone } from './measure.ts';
import { atLeast, type Row } from './row.ts';

/**
 * Tasks a second through a control plane and 100 *simulated* agents: from the first submission (the use case behind
 * CreateTask: decision, idempotency, audit) to the last verified receipt on the disk. One process holds the control
 * plane, one all agents; link, TLS and signatures are real. n is the number of tasks.
 *
 * The reference is what SQLite alone takes: as many rows as a task leaves, inserted by better-sqlite3 in transactions of
 * the size that group commit reached.
 */
const AGENTS = 100;
/** A task's row and its updates, its documents, audit record, request key, two outbox rows. */
const STATEMENTS_PER_TASK = 12;
const GROUP = 128;

export const row: Row = {
	name: 'fleet-tasks',
	what: 'tasks through 100 simulated agents, submitted and durably ended',
	unit: '1/s',
	per: 'tasks',
	reference: `bare better-sqlite3: ${STATEMENTS_PER_TASK} statements a task, ${GROUP} tasks a transaction`,
	targets: [atLeast(3000, '>= 3,000/s', ({ n, value }) => (n >= 1000 ? value.median : undefined))],
	sizes: { full: [100, 1000, 10_000], quick: [100, 1000] },
	repetitions: { full: 3, quick: 2 },
	budgetSeconds: 60,
	async open() {
		const world = await FleetWorld.open();
		const nodeIds = (await world.identities(AGENTS)).map(({ nodeId }) => nodeId);
		await world.connect(AGENTS);
		const folder = mkdtempSync(join(tmpdir(), 'gpuaas-bench-bare-'));
		const bare = bareDatabase(join(folder, 'bare.db'));
		const drained = (count: number) =>
			untilDone(count, async () => {
				const open = await world.plane<Readonly<Record<string, number>>>({ ask: 'tasks' });
				return OPEN.every((state) => (open[state] ?? 0) === 0);
			});
		const submit = async (count: number) => {
			await world.plane({ ask: 'submit', nodeIds, count, callers: 64 });
			await drained(count);
		};
		await submit(1000);
		return {
			async run(n) {
				const before = world.cpuUs();
				const ms = await timed(() => submit(n));
				const also = cpuPerTask(before, world.cpuUs(), n);
				const bareMs = await timed(() => bare.insert(n));
				return { value: (n / ms) * 1000, reference: (n / bareMs) * 1000, also };
			},
			async [Symbol.asyncDispose]() {
				await world[Symbol.asyncDispose]();
				bare.close();
				rmSync(folder, { recursive: true, force: true });
			},
		};
	},
};

const OPEN = ['queued', 'leased', 'running', 'cancelling'];

function bareDatabase(path: string) {
	const database = new Database(path);
	database.pragma('journal_mode = WAL');
	database.pragma('synchronous = FULL');
	database.exec('CREATE TABLE rows (id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, body BLOB NOT NULL)');
	const statement = database.prepare('INSERT INTO rows (at_ms, body) VALUES (?, ?)');
	const body = Buffer.alloc(300, 1);
	const group = database.transaction((statements: number) => {
		for (let done = 0; done < statements; done += 1) statement.run(systemClock.now(), body);
	});
	return {
		insert(tasks: number): void {
			for (let left = tasks; left > 0; left -= GROUP) group(Math.min(left, GROUP) * STATEMENTS_PER_TASK);
		},
		close: () => database.close(),
	};
}
