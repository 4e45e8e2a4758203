import { create } from '@bufbuild/protobuf';
import type { CallContext } from '../../control-plane/app/iam/principal.ts';
import { authorizedTarget } from '../../control-plane/app/iam/target.ts';
import { releaseQuota, takeQuota, type Wish } from '../../control-plane/app/quotas/reserve.ts';
import { createTask } from '../../control-plane/app/tasks/create.ts';
import { openStore } from '../../control-plane/store/open.ts';
import { openPgStore } from '../../control-plane/store/pg/store.ts';
import type { Tx } from '../../control-plane/store/port/store.ts';
import { TASK_STATES_OPEN } from '../../control-plane/store/port/tasks.ts';
import type { Plan } from '../../control-plane/store/port/unit.ts';
import { systemClock } from '../../kit/clock.ts';
import { systemRng, uuidv7 } from '../../kit/ids.ts';
import { silentLogger } from '../../kit/log.ts';
import { CreateTaskRequestSchema } from '../../proto/gen/gpuaas/tasks/v1/tasks_pb.ts';
import { assignmentRow, nodeRow, taskRow } from '../contract/store/rows.ts';
import { PostgresServer } from '../fakes/postgres.ts';
import { IamBench } from './iam-world.ts';
import { percentile, timed } from './measure.ts';
import type { Row } from './row.ts';

/**
 * What quota admission and row security add to a tenant's request: one unit that decides on CreateTask and stores a task,
 * with its place in the quotas of project and organization taken or not; and one read of a page of 100 tasks, decided. On SQLite, on
 * PostgreSQL as in production, and there without row security, in turns, so that whatever else the machine does falls on
 * all. n tasks are open before, each with its reservation. One caller: what is measured is work, not waiting for a lock.
 */
const REQUESTS = 20;
const BLOCKS = 5;
const FILLED_AT_ONCE = 500;

export const row: Row = {
	name: 'admission',
	what: 'a tenant’s CreateTask with its quota taken, on SQLite',
	unit: 'us',
	per: 'open tasks, each with its reservation',
	reference: 'the same with no quota taken',
	targets: [],
	sizes: { full: [100, 1000, 10_000], quick: [100, 1000] },
	repetitions: { full: 3, quick: 2 },
	budgetSeconds: 60,
	async open() {
		await using close = new AsyncDisposableStack();
		const server = close.use(await PostgresServer.start());
		const deps = { clock: systemClock, rng: systemRng, log: silentLogger };
		const sqlite = close.use(await Admitting.start(new IamBench()));
		const pg = close.use(await Admitting.start(new IamBench(await openStore(await server.createDatabase(), deps))));
		const bare = await openPgStore(await server.createDatabase(), deps, { rowSecurity: false });
		const pgBare = close.use(await Admitting.start(new IamBench(bare)));
		const kept = close.move();
		return {
			async run(n) {
				for (const store of [sqlite, pg, pgBare]) await store.fill(n);
				const [ofSqlite, ofPg, ofBare] = [new Blocks(sqlite), new Blocks(pg), new Blocks(pgBare)];
				for (let block = 0; block < BLOCKS; block += 1)
					for (const blocks of [ofSqlite, ofPg, ofBare]) await blocks.one();
				return {
					value: median(ofSqlite.taken),
					reference: median(ofSqlite.without),
					also: {
						pgUs: median(ofPg.taken),
						pgWithoutQuotaUs: median(ofPg.without),
						pgWithoutRlsUs: median(ofBare.taken),
						pgWithoutBothUs: median(ofBare.without),
						pageSqliteUs: median(ofSqlite.page),
						pagePgUs: median(ofPg.page),
						pagePgWithoutRlsUs: median(ofBare.page),
					},
				};
			},
			[Symbol.asyncDispose]: () => kept.disposeAsync(),
		};
	},
};

/** Microseconds of a request, block by block. */
class Blocks {
	readonly taken: number[] = [];
	readonly without: number[] = [];
	readonly page: number[] = [];
	readonly #store: Admitting;

	constructor(store: Admitting) {
		this.#store = store;
	}

	async one(): Promise<void> {
		this.taken.push(await this.#store.created(true));
		this.without.push(await this.#store.created(false));
		this.page.push(await this.#store.page());
	}
}

function median(of: readonly number[]): number {
	return percentile(of, 50);
}

const PROJECT = 'organizations/acme/projects/p7';
const OWNED = { organization: 'acme', project: 'p7' };

/** An organization with a node, and Ada, who sends it tasks. */
class Admitting implements AsyncDisposable {
	readonly #bench: IamBench;
	readonly #ctx: CallContext;
	#open = 0;

	private constructor(bench: IamBench, ctx: CallContext) {
		this.#bench = bench;
		this.#ctx = ctx;
	}

	static async start(bench: IamBench): Promise<Admitting> {
		await bench.found(100);
		await bench.store.unit(function* (tx) {
			yield* tx.nodes.insert(nodeRow('n', { name: 'n' }));
			yield* tx.assignments.insert(assignmentRow('a', 'n', { ...OWNED, mode: 'operator' }));
			for (const scope of [PROJECT, 'organizations/acme']) {
				yield* tx.quotas.lock('acme', [scope], 'tasks');
				yield* tx.quotas.setLimit(scope, 'tasks', { limitMax: 1_000_000, changedAtMs: 1, changedBy: 'ada' });
			}
		});
		return new Admitting(bench, { actor: await bench.ada() } as CallContext);
	}

	/** To so many open tasks. */
	async fill(tasks: number): Promise<void> {
		while (this.#open < tasks) {
			const ids = newIds(Math.min(FILLED_AT_ONCE, tasks - this.#open));
			await this.#bench.store.unit(function* (tx) {
				for (const id of ids) {
					yield* stored(tx, id, false);
					yield* tx.quotas.insertReservation({ ...wishOf(id), state: 'committed', createdAtMs: 1, expiresAtMs: null });
				}
				yield* tx.quotas.add([PROJECT, 'organizations/acme'], 'tasks', { used: ids.length, reserved: 0 });
			});
			this.#open += ids.length;
		}
	}

	/** Microseconds of one request that stores a task. */
	async created(takes: boolean): Promise<number> {
		const ids = newIds(REQUESTS);
		const request = create(CreateTaskRequestSchema, { node: 'n' });
		const { store } = this.#bench;
		const ms = await timed(async () => {
			for (const id of ids) {
				const plan = (tx: Tx) => this.#decided(tx, request, () => stored(tx, id, takes));
				await store.unit(plan, TENANCY);
			}
		});
		// Else there would be more open than n, from block to block.
		await store.unit(function* (tx) {
			if (takes) yield* releaseQuota(tx, 'tasks', ids);
			for (const id of ids) yield* tx.tasks.change(id, { state: 'cancelled', endedAtMs: 1 }, TASK_STATES_OPEN);
		});
		return (ms * 1000) / REQUESTS;
	}

	/** Microseconds of one that reads a page of the node's open tasks. */
	async page(): Promise<number> {
		const request = create(CreateTaskRequestSchema, { node: 'n' });
		const ms = await timed(async () => {
			for (let done = 0; done < REQUESTS; done += 1)
				await this.#bench.store.read((tx) => this.#decided(tx, request, () => tx.tasks.list(PAGE)), TENANCY);
		});
		return (ms * 1000) / REQUESTS;
	}

	*#decided<T>(tx: Tx, request: Parameters<typeof authorizedTarget>[4], then: () => Plan<T>): Plan<T> {
		const view = yield* this.#bench.policies.inUnit(tx);
		yield* authorizedTarget(tx, view, this.#ctx, createTask.policy, request, systemClock.now());
		return yield* then();
	}

	[Symbol.asyncDispose](): Promise<void> {
		return this.#bench[Symbol.asyncDispose]();
	}
}

const PAGE = {
	...{ afterId: '', limit: 100, nodeId: 'n', states: TASK_STATES_OPEN, batchId: null },
	visibility: { all: true as const },
};
const TENANCY = { tenancy: { organizations: ['acme'], principalId: 'ada' } };

function newIds(count: number): readonly string[] {
	return Array.from({ length: count }, () => uuidv7(systemClock.now(), systemRng));
}

function* stored(tx: Tx, id: string, takes: boolean): Plan<void> {
	yield* tx.tasks.insert(taskRow(id, 'n', { ...OWNED, assignmentId: 'a', createdBy: 'ada' }));
	if (!takes) return;
	yield* takeQuota(tx, { ...wishOf(id), nowMs: 1 });
}

function wishOf(holder: string): Omit<Wish, 'nowMs'> {
	return { kind: 'tasks', holder, scope: PROJECT, organization: 'acme', amount: 1 };
}
